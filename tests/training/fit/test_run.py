"""Whole runs on tiny data: choices, resumption after a kill, evaluation, the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import (
    BackboneError,
    BundleError,
    CheckpointError,
    DataError,
    DivergenceError,
    SplitError,
    TrainingError,
)
from training.evaluation.protocol import evaluate
from training.fit import run as fitting
from training.fit import stage as stages
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.fit.stage import DEFAULT_RIDGE, Stage
from training.model.bundle import load_bundle
from training.model.calibration import Calibration, Coefficients
from training.model.images import open_image
from training.model.tensors import load_tensors

pytestmark = pytest.mark.long

CPU = torch.device("cpu")
CALIBRATION = Calibration(coefficients=(Coefficients(dimensions=1, slope=1, size=0, offset=0),), classes=1, queries=6)
TINY = {
    "backbone": "tf_efficientnet_lite0",
    "image_size": 32,
    "dim": 8,
    "batch_size": 16,
    "tune": "heads",
    "line_drawings": 0,
}


def run(shapes, out, *, split=None, cache=None, **choices):
    recipe = Recipe(**(TINY | {"epochs": 2} | choices))
    return fit(shapes, out, recipe, split=split, cache=cache or shapes.parent / "cache", device=CPU)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "unseen.txt"
    path.write_text("triangle\n")
    return str(path)


def test_a_run_leaves_a_model_and_its_figures(shapes, split, tmp_path):
    manifest = run(shapes, tmp_path, split=split)
    assert len(manifest.spectrum) == 2  # three seen classes have two modes
    assert list(manifest.spectrum) == sorted(manifest.spectrum, reverse=True)
    assert manifest.training.classes == ("circle", "line", "square")
    assert manifest.training.unseen == ("triangle",)
    stages = [json.loads(line)["stage"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert stages == ["choose"] * 2 + ["final"] * 2
    assert list((tmp_path / "tensorboard").rglob("events*"))
    report = evaluate(load_bundle(tmp_path, "cpu"), shapes, split=None, cache=shapes.parent / "cache", device=CPU)
    assert (report.queries, report.gallery, report.classes, report.trained_classes) == (6, 6, 1, 0)
    everything = evaluate(
        load_bundle(tmp_path, "cpu"), shapes, split=split, gallery="all", cache=shapes.parent / "cache", device=CPU
    )
    assert (everything.queries, everything.gallery) == (6, 24)


def test_relevance_is_fitted_on_the_classes_held_out_while_choosing(shapes, tmp_path, monkeypatch):
    given = []

    def calibrated(features, encoders, spectrum, classes):
        given.append((set(features.data.classes), len(spectrum), set(classes)))
        return CALIBRATION

    monkeypatch.setattr(fitting, "fit_calibration", calibrated)
    assert run(shapes, tmp_path, tune="none").calibration == CALIBRATION
    [(classes, dim, held_out)] = given
    assert held_out
    assert held_out < classes == {"circle", "line", "square", "triangle"}
    assert dim == len(classes) - 1


def test_without_held_out_classes_nothing_is_chosen(shapes, tmp_path):
    tuned = run(shapes, tmp_path / "tuned", validation=0)
    assert tuned.sufficient_dimensions is None
    assert "held_out_score" not in tuned.training.figures
    assert "ridge" not in tuned.training.figures
    stages = [json.loads(line)["stage"] for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert stages == ["final"] * 2
    assert run(shapes, tmp_path / "frozen", validation=0, tune="none").training.figures["ridge"] == DEFAULT_RIDGE


def test_training_separates_its_own_classes(shapes, tmp_path):
    run(shapes, tmp_path, tune="none")
    report = evaluate(load_bundle(tmp_path, "cpu"), shapes, split=None, cache=shapes.parent / "cache", device=CPU)
    assert report.trained_classes == 4
    assert report.map_all > 0.9


def test_a_table_of_weighted_pairs(shapes, tmp_path):
    rows = ["sketch,photo,weight,class"]
    for label in ("circle", "line", "square", "triangle"):
        for number in range(6):
            pair = [f"{side}/{label}/{label}-{number}.png" for side in ("sketch", "photo")]
            rows.append(",".join([*(str(shapes / name) for name in pair), str(1 + number), label]))
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows))
    manifest = run(table, tmp_path / "run", cache=shapes.parent / "cache")
    assert manifest.training.classes == ("circle", "line", "square", "triangle")
    report = evaluate(
        load_bundle(tmp_path / "run", "cpu"), table, split=None, cache=shapes.parent / "cache", device=CPU
    )
    assert (report.queries, report.gallery) == (24, 24)
    assert report.accuracy[10] > 10 / 24  # one relevant photo each; chance finds it in the first ten as often


@pytest.mark.parametrize(
    "choices",
    [
        {"init": "random", "hidden": 16, "sketch_norm": "ball", "photo_norm": "ball", "share_head": False},
        {"nesting": "sequential", "optimizer": "sgd"},
        {"nesting": "none", "canonical": False, "init": "random"},
        {"share_head": False, "photo_norm": "none", "ridge": 3.0},
        {"flip": True, "grayscale": True, "crop_to_ink": True, "multi_scale": False},
        {"tune": "all", "line_drawings": 0.5, "average": 0.0, "pooling": "mean-max"},
        {"tune": "all", "image_size": 48, "training_size": 32, "teacher": "contrastive"},
        {"tune": "all", "share_head": False, "distillation": 0.5, "init": "random"},
        {"tune": "all", "teacher": "both", "class_pairs": 2, "tuning_instances": 0.3, "layer_decay": 0.5},
        {"tune": "all", "share_backbone": False, "multi_scale": False, "crop_to_ink": True},
    ],
)
def test_every_choice_trains(shapes, tmp_path, choices):
    run(shapes, tmp_path, epochs=1, **choices)
    assert np.isfinite(load_bundle(tmp_path, "cpu").spectrum).all()


def test_earlier_stages_learn_more_slowly_and_exact_matches_train_backbones(shapes, tmp_path, monkeypatch):
    rates, shares = [], []

    def spy(module, groups, *rest, **options):
        rates.append([group.learning_rate for group in groups])
        return minimise(module, groups, *rest, **options)

    def watched(self, features):
        shares.append(
            sum(w for w, g in zip(features.data.weights, features.data.groups, strict=True) if len(g.photos) == 1)
        )
        return train(self, features)

    minimise, train = stages.minimise, Stage.train
    monkeypatch.setattr(stages, "minimise", spy)
    monkeypatch.setattr(Stage, "train", watched)
    choices = {"tune": "all", "epochs": 1, "frozen_stages": 2, "backbone_learning_rate": 8e-4, "layer_decay": 0.5}
    run(shapes, tmp_path, pairing="names", tuning_instances=0.25, **choices)
    assert rates[0][1:] == [8e-4 * 0.5**depth for depth in range(len(rates[0]) - 1)]
    assert len(rates[0]) > 2
    assert shares == pytest.approx([0.25, 0.25])


def test_canonical_form_changes_no_score(shapes, tmp_path):
    choices = {"tune": "none", "ridge": 2.0, "share_head": False}
    run(shapes, tmp_path / "plain", canonical=False, **choices)
    run(shapes, tmp_path / "ordered", **choices)
    reports = [
        evaluate(load_bundle(tmp_path / name, "cpu"), shapes, split=None, cache=shapes.parent / "cache", device=CPU)
        for name in ("plain", "ordered")
    ]
    assert reports[0].map_all == pytest.approx(reports[1].map_all, abs=1e-5)


def test_a_finished_run_is_not_repeated_and_another_is_refused(shapes, tmp_path, monkeypatch):
    first = run(shapes, tmp_path)
    monkeypatch.setattr(fitting, "paired_features", pytest.fail)
    assert run(shapes, tmp_path) == first
    with pytest.raises(CheckpointError, match="other data or settings"):
        run(shapes, tmp_path, dim=4)


def test_tuning_changes_the_later_stages_and_starts_from_them_again(shapes, tmp_path):
    tuning = {"tune": "all", "backbone_learning_rate": 1e-3, "validation": 0}
    run(shapes, tmp_path / "frozen", tune="none", validation=0)
    run(shapes, tmp_path / "tuned", **tuning)
    run(shapes, tmp_path / "continued", tune="none", start=tmp_path / "tuned", validation=0)
    run(shapes, tmp_path / "whole", frozen_stages=0, **tuning)
    frozen, tuned, continued, whole = (
        load_tensors(tmp_path / name / "model.safetensors") for name in ("frozen", "tuned", "continued", "whole")
    )
    stem, second, third = (
        f"sketch.backbone.model.{name}.weight" for name in ("conv_stem", "blocks.1.1.conv_pw", "blocks.2.0.conv_pw")
    )
    assert torch.equal(frozen[stem], tuned[stem])
    assert torch.equal(frozen[second], tuned[second])
    assert not torch.equal(frozen[third], tuned[third])
    assert torch.equal(continued[third], tuned[third])
    assert not torch.equal(frozen[stem], whole[stem])
    for number, other in enumerate(({"multi_scale": False}, {"pooling": "mean-max"})):
        start = {"start": tmp_path / "tuned", "validation": 0, **other}
        run(shapes, tmp_path / str(number), tune="none", **start)  # other features of the same backbone
        pooled = load_tensors(tmp_path / str(number) / "model.safetensors")
        assert torch.equal(pooled[third], tuned[third])
        assert pooled["sketch.head.body.weight"].shape[1] != tuned["sketch.head.body.weight"].shape[1]
        for needing in ({"start_heads": 0.5}, {"sketch_mean": "start"}):
            with pytest.raises(BundleError, match="give the same in the recipe, or start_heads 0 and sketch_mean data"):
                run(shapes, tmp_path / "other", tune="none", **start, **needing)


def test_heads_to_start_from_keep_their_share(shapes, tmp_path):
    def scores(name):
        bundle = load_bundle(tmp_path / name, "cpu")
        sketches, photos = (
            [open_image(file) for file in sorted((shapes / kind).rglob("*.png"))] for kind in ("sketch", "photo")
        )
        return (bundle.encode_sketches(sketches) @ bundle.encode_photos(photos).T).ravel()

    choices = {"tune": "none", "validation": 0}
    run(shapes, tmp_path / "start", ridge=1e-3, **choices)
    for name, share in (("none", 0), ("half", 0.5), ("most", 0.9999)):
        run(shapes, tmp_path / name, ridge=1e3, start=tmp_path / "start", start_heads=share, **choices)
    none, half, most = (np.corrcoef(scores("start"), scores(name))[0, 1] for name in ("none", "half", "most"))
    assert none < half - 0.01
    assert half < most
    assert most > 0.999


def test_separate_heads_have_no_share_to_keep(shapes, tmp_path):
    run(shapes, tmp_path / "start", tune="none", share_head=False)
    with pytest.raises(BundleError, match="has no linear head for both modalities; set start_heads to 0 in the recipe"):
        run(shapes, tmp_path / "run", tune="none", start=tmp_path / "start", start_heads=0.5)


def test_the_dimensions_that_suffice_are_recorded(shapes, tmp_path):
    manifest = run(shapes, tmp_path, tune="none")
    assert manifest.sufficient_dimensions in range(1, len(manifest.spectrum) + 1)
    assert load_bundle(tmp_path, "cpu").manifest == manifest


def fit_words(shapes, out, cache, **choices):
    recipe = out.with_suffix(".json")
    recipe.write_text(json.dumps({"epochs": 12, "learning_rate": 0.003} | TINY | choices))
    options = {"data": shapes, "out": out, "cache": cache, "device": "cpu", "recipe": recipe}
    return ["fit", *(f"--{name}={value}" for name, value in options.items())]


CONTRASTIVE = {"tune": "all", "line_drawings": 0.3, "teacher": "contrastive", "distillation": 0.5}


@pytest.fixture
def one_thread():
    """As in the processes that are started with one thread, so that sums are the same to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DIES = """
import os, signal, sys
from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.fit.run_log import RunLog

write = RunLog.write

def write_and_die(self, stage, history):
    write(self, stage, history)
    if (stage, len(history)) == ("choose", 2):
        os.kill(os.getpid(), signal.SIGKILL)

RunLog.write = write_and_die
sys.exit(run_command(TRAINING, sys.argv[1:]))
"""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("choices", [{}, CONTRASTIVE])
def test_a_killed_run_goes_on_to_the_same_result(shapes, tiny_bundle, tmp_path, caplog, choices):
    caplog.set_level("INFO")
    cache = shapes.parent / "cache"
    small = {"backbone": "test_efficientnet", "multi_scale": False, "image_size": 64, "start": str(tiny_bundle)}
    assert run_command(TRAINING, fit_words(shapes, tmp_path / "whole", cache, epochs=3, **small, **choices)) == 0
    words = fit_words(shapes, tmp_path / "killed", cache, epochs=3, **small, **choices)
    died = subprocess.run(
        [sys.executable, "-c", DIES, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "killed" / "model.json").exists()
    assert not any("going on after epoch" in message for message in caplog.messages)
    assert run_command(TRAINING, words) == 0
    assert any("going on after epoch" in message for message in caplog.messages)
    whole, resumed = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
    figures = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    stripped = [[{**json.loads(line), "seconds": 0} for line in lines] for lines in figures]
    assert stripped[0] == stripped[1]


def test_a_damaged_checkpoint_is_named(shapes, tmp_path):
    run(shapes, tmp_path)
    (tmp_path / "model.json").unlink()
    (tmp_path / "checkpoint-choose.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"checkpoint-choose.safetensors is damaged"):
        run(shapes, tmp_path)


def test_an_unusable_feature_cache_is_named(shapes, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "features.sqlite").write_bytes(b"not a database, but long enough to look like one" * 40)
    with pytest.raises(TrainingError, match=r"feature cache in .* cannot be used .*name another --cache"):
        run(shapes, tmp_path / "run", cache=tmp_path / "cache")


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(shapes, tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        for out, cache in ((tmp_path / "run", small / "cache"), (small / "run", shapes.parent / "cache")):
            assert run_command(TRAINING, fit_words(shapes, out, cache, epochs=1)) == 1
            last = capsys.readouterr().err.splitlines()[-1]
            assert last.startswith("error: ")
            assert "space" in last
            assert not (out / "model.json").exists()
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        assert run_command(TRAINING, fit_words(shapes, small / "run", small / "cache", epochs=1)) == 0
        assert (small / "run" / "model.json").exists()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_a_split_must_leave_two_classes_to_train_on(shapes, tmp_path):
    (tmp_path / "unseen.txt").write_text("circle\nline\nsquare\n")
    with pytest.raises(SplitError, match="leaves 1 seen classes; at least two are needed to train"):
        run(shapes, tmp_path / "run", split=str(tmp_path / "unseen.txt"))


def test_bad_images_are_listed_and_skipped(shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    (root / "sketch" / "circle" / "text.png").write_text("no picture")
    whole = (root / "photo" / "line" / "line-0.png").read_bytes()
    (root / "photo" / "line" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "photo" / "line" / "empty.jpg").touch()
    manifest = run(root, tmp_path / "run", tune="none")
    assert manifest.training.images == {"sketches": 24, "photos": 24}
    rejects = [json.loads(line) for line in (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()]
    assert {Path(row["file"]).name: row["reason"].split()[0] for row in rejects} == {
        "text.png": "not",
        "cut.png": "truncated",
        "empty.jpg": "empty",
    }


def test_data_without_a_usable_class(shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    for file in root.rglob("photo/*/*.png"):
        file.write_text("no picture")
    with pytest.raises(DataError, match="no sketch and photo that belong together are usable"):
        run(root, tmp_path / "run", tune="none")


@pytest.mark.parametrize("usable", [1, 2])
def test_too_few_classes_are_left_to_train_or_to_hold_any_out(shapes, tmp_path, usable):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    for label in ("circle", "line", "square")[: 4 - usable]:
        for file in (root / "photo" / label).iterdir():
            file.write_text("no picture")
    if usable == 1:
        with pytest.raises(DataError, match=r"fewer than two classes .*rejects.jsonl"):
            run(root, tmp_path / "run", tune="none")
    else:
        manifest = run(root, tmp_path / "run", tune="none")
        assert manifest.training.classes == ("square", "triangle")
        assert "held_out_score" not in manifest.training.figures


UNUSABLE = {
    "missing.png": "No such",
    "folder.png": "not a regular file but a folder",
    "loop.png": "Too many",
    "x" * 300: "File name too",
    "a.png/b": "Not a",
}


def table_with_unusable_files(shapes, folder):
    """A pairs table of usable pairs, and for every kind of unusable file a pair on either side."""
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "a.png").touch()
    good = sorted((shapes / "sketch").rglob("*.png"))
    rows = [(sketch, str(sketch).replace("/sketch/", "/photo/"), sketch.parent.name) for sketch in good]
    rows += [(name, rows[0][1], "circle") for name in UNUSABLE] + [
        (rows[0][0], f"./{name}", "circle") for name in UNUSABLE
    ]
    table = folder / "pairs.csv"
    table.write_text("\n".join(["sketch,photo,class", *(",".join(map(str, row)) for row in rows)]))
    return table


@pytest.mark.parametrize("choices", [{"tune": "none"}, {"tune": "all", "epochs": 1, "line_drawings": 0.3}])
def test_files_that_cannot_be_read_are_listed_and_skipped(shapes, tmp_path, choices):
    table = table_with_unusable_files(shapes, tmp_path)
    manifest = run(table, tmp_path / "run", cache=tmp_path / "cache", **choices)
    assert manifest.training.images["photos"] == 24
    rejects = [json.loads(line) for line in (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rejects} == {str(tmp_path / name) for name in UNUSABLE}
    assert all(row["reason"].startswith(UNUSABLE[row["file"].removeprefix(f"{tmp_path}/")]) for row in rejects)
    report = evaluate(load_bundle(tmp_path / "run", "cpu"), table, split=None, cache=tmp_path / "cache", device=CPU)
    assert (report.queries, report.gallery) == (24, 24)
    assert run(table, tmp_path / "run", cache=tmp_path / "cache", **choices) == manifest  # known to be finished


def test_files_that_vanish_between_two_looks_are_listed_and_skipped(shapes, tmp_path, monkeypatch):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    run(root, tmp_path / "before", cache=tmp_path / "cache", tune="none")  # fills the cache
    vanishing = [root / "sketch" / "line" / "line-0.png", root / "photo" / "circle" / "circle-1.png"]
    features = fitting.paired_features

    def later(*arguments, **options):
        for file in vanishing:
            file.unlink(missing_ok=True)
        return features(*arguments, **options)

    monkeypatch.setattr(fitting, "paired_features", later)
    manifest = run(root, tmp_path / "run", cache=tmp_path / "cache", tune="none", validation=0)
    assert manifest.training.images == {"sketches": 23, "photos": 23}
    rejects = [json.loads(line) for line in (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rejects} == {str(file) for file in vanishing}


def test_a_file_that_vanishes_while_backbones_are_trained_is_listed_and_skipped(shapes, tmp_path, monkeypatch):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    vanishing = root / "photo" / "circle" / "circle-1.png"
    train = Stage.train

    def later(*arguments):
        vanishing.unlink(missing_ok=True)
        return train(*arguments)

    monkeypatch.setattr(Stage, "train", later)
    manifest = run(root, tmp_path / "run", cache=tmp_path / "cache", tune="all", epochs=2, validation=0)
    assert manifest.training.images["photos"] == 24  # it was there when training began
    [reject] = [json.loads(line) for line in (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()]
    assert reject == {"file": str(vanishing), "reason": "No such file or directory"}


def test_evaluation_of_one_class_leaves_out_what_is_unusable_and_says_when_nothing_is_left(shapes, split, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    run(root, tmp_path / "run", split=split, tune="none")
    bundle = load_bundle(tmp_path / "run", "cpu")

    def evaluated(gallery):
        return evaluate(bundle, root, split=None, gallery=gallery, cache=tmp_path / "cache", device=CPU)

    files = sorted((root / "sketch" / "triangle").iterdir())
    files[0].write_text("no picture")
    assert (evaluated("unseen").queries, evaluated("all").queries) == (5, 5)
    for file in files[1:]:
        file.write_text("no picture")
    for gallery in ("unseen", "all"):
        with pytest.raises(DataError, match=r"no sketch .* usable"):
            evaluated(gallery)


def test_a_run_and_an_evaluation_say_by_which_rule_they_pair_instances(shapes, tmp_path, caplog):
    caplog.set_level("INFO")
    rules = {"auto": "no instance pairs: file names do not tell", "names": "24 instance pairs by file names"}
    for pairing, line in rules.items():
        run(shapes, tmp_path / pairing, tune="none", pairing=pairing)
        assert any(record.getMessage().startswith(line) for record in caplog.records)
        caplog.clear()
        bundle = load_bundle(tmp_path / pairing, "cpu")
        report = evaluate(bundle, shapes, split=None, cache=shapes.parent / "cache", device=CPU)
        assert any(record.getMessage().startswith(line) for record in caplog.records)
        assert report.instance_rule in line + report.instance_rule
        assert report.instance_queries == (24 if pairing == "names" else 0)
        assert bool(report.instance_accuracy) == (pairing == "names")
        caplog.clear()


def test_a_training_that_diverges_says_what_to_do(shapes, tmp_path):
    with pytest.raises(
        DivergenceError, match=r"at step \d+ of epoch 1: lower the learning rate .* no epoch was finished"
    ):
        run(shapes, tmp_path, learning_rate=1e30, clip=0.0, init="random", validation=0, photo_norm="none")


def test_weights_that_need_a_network_say_so(shapes, tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(BackboneError, match="check the network"):
        run(shapes, tmp_path, backbone="resnet18")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["fit", "--data", "nowhere", "--out", "run"], 1, "is not a folder"),
        (["fit", "--out", "run"], 2, "give either --data or --photos"),
        (["fit", "--data", "x", "--out", "y", "--epochs", "0"], 2, "--epochs: Input should be greater"),
        (["evaluate", "--model", "nowhere", "--data", "x"], 1, "is not a model bundle"),
    ],
)
def test_the_command_line_explains_in_one_line(arguments, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(TRAINING, arguments) == status
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_evaluate_writes_its_figures(shapes, split, tmp_path):
    run(shapes, tmp_path / "run", split=split, tune="none")
    arguments = ["evaluate", "--model", tmp_path / "run", "--data", shapes, "--split", split]
    arguments += [
        "--json",
        tmp_path / "figures.json",
        "--plot",
        tmp_path / "figures.png",
        "--cache",
        shapes.parent / "cache",
    ]
    assert run_command(TRAINING, [str(argument) for argument in arguments]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    expected = {
        "map_all",
        "map_200",
        "map_interpolated",
        "precision",
        "curve",
        "gallery_curve",
        "queries",
        "gallery",
        "spectrum",
    }
    assert expected <= figures.keys()
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")
