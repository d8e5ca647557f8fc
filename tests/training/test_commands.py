"""``svdraw fit``: options, the recipe's file and the defaults, and who wins over whom."""

import json

import pytest

import training.commands
from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.evaluation.protocol import EvaluationReport
from training.evaluation.report import GalleryFigures
from training.fit.recipe import Recipe
from training.model.bundle import copy_bundle
from training.model.calibration import Calibration, Coefficients
from training.model.manifest import read_manifest
from training.model.starter import STARTER_MODEL


class Chosen(Exception):  # noqa: N818 - no error
    """Carries the recipe out of the command in place of training by it."""


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """Runs ``svdraw fit`` up to the training, and gives the recipe it would train by."""

    def train(data, out, recipe, **_):
        raise Chosen(recipe)

    monkeypatch.setattr(training.commands, "train", train)
    monkeypatch.setattr(training.commands, "draw_pairs", lambda photos, out: out)

    def choose(*options, source="--data", **fields):
        file = tmp_path / "recipe.json"
        file.write_text(json.dumps(fields))
        with pytest.raises(Chosen) as caught:
            run_command(TRAINING, ["fit", source, "x", "--out", "y", "--recipe", str(file), *options])
        return caught.value.args[0]

    return choose


def test_what_is_left_out_keeps_the_defaults(choose):
    assert choose() == Recipe()


def test_options_win_over_the_file_and_the_file_over_the_defaults(choose):
    chosen = choose("--epochs", "9", "--tune", "heads", epochs=7, dim=33, hidden=16, init="random")
    assert chosen == Recipe(epochs=9, tune="heads", dim=33, hidden=16, init="random")


def test_the_environment_counts_as_an_option(choose, monkeypatch):
    monkeypatch.setenv("SVDRAW_FIT_EPOCHS", "9")
    assert choose(epochs=7).epochs == 9


def test_photos_alone_have_defaults_of_their_own(choose):
    chosen = choose(source="--photos")
    assert (chosen.start, chosen.tune, chosen.sketch_mean) == (STARTER_MODEL, "none", "start")
    assert (chosen.start_heads, chosen.line_drawings) == (0.5, 0)
    assert chosen.crop_to_ink


def test_photos_alone_keep_the_features_of_the_model(choose, monkeypatch):
    manifest = read_manifest(STARTER_MODEL)
    encoders = manifest.encoders.model_copy(update={"pooling": "mean-max", "multi_scale": False})
    other = manifest.model_copy(update={"encoders": encoders})
    monkeypatch.setattr(training.commands, "read_manifest", lambda folder: other)
    chosen = choose(source="--photos")
    assert (chosen.pooling, chosen.multi_scale) == ("mean-max", False)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tune": "heads"}, {"tune": "heads", "sketch_mean": "start", "start_heads": 0}),
        ({"tune": "all"}, {"tune": "all", "sketch_mean": "data", "start_heads": 0}),
        ({"start_heads": 0.25, "flip": True}, {"start_heads": 0.25, "flip": True, "tune": "none"}),
        ({"share_head": False}, {"share_head": False, "start_heads": 0}),
        ({"line_drawings": 0.4, "ridge": None}, {"line_drawings": 0.4, "ridge": None}),
    ],
)
def test_they_yield_to_the_file(choose, fields, expected):
    chosen = choose(source="--photos", **fields)
    assert {name: getattr(chosen, name) for name in expected} == expected


def test_they_yield_to_options(choose):
    chosen = choose("--image-size", "64", "--tune", "heads", source="--photos", tune="all")
    assert (chosen.image_size, chosen.tune, chosen.sketch_mean) == (64, "heads", "start")


@pytest.mark.parametrize(
    ("text", "options", "status", "message"),
    [
        ("{", [], 1, "is not JSON: "),
        ("\xff\xfe", [], 1, "is not JSON: "),
        ("[]", [], 1, "is not a JSON object"),
        ('{"epocs": 3}', [], 1, "has the unknown field 'epocs'; did you mean 'epochs'?"),
        ('{"multi-scale": true}', [], 1, "has the unknown field 'multi-scale'; did you mean 'multi_scale'?"),
        ('{"mu": -1}', [], 2, "mu: Input should be greater than 0"),
        ('{"epochs": 0}', [], 2, "epochs: Input should be greater than or equal to 1"),
        (
            '{"hidden": 8}',
            [],
            2,
            "the closed form needs linear heads: set init to random, or hidden to 0, in the recipe",
        ),
        ('{"init": "random"}', ["--tune", "none"], 2, "random heads need training: choose --tune heads or --tune all"),
        ('{"sketch_mean": "start"}', [], 2, "sketch_mean start in the recipe needs a model to --start from"),
        ('{"start_heads": 0.5}', [], 2, "start_heads in the recipe needs a model to --start from"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, capsys, text, options, status, message):
    file = tmp_path / "recipe.json"
    file.write_bytes(text.encode("latin-1"))
    line = ["fit", "--data", "x", "--out", str(tmp_path / "out"), "--recipe", str(file), *options]
    assert run_command(TRAINING, line) == status
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_is_not_there(tmp_path, capsys):
    assert run_command(TRAINING, ["fit", "--data", "x", "--out", "y", "--recipe", str(tmp_path / "no.json")]) == 1
    assert capsys.readouterr().err == f"error: No such file or directory: {tmp_path / 'no.json'}\n"


@pytest.mark.parametrize(
    ("queries", "rule"),
    [(24, "by file names NAME-k of photo NAME"), (0, "file names do not tell which photo a sketch depicts")],
)
def test_evaluate_says_which_rule_found_instance_pairs(tmp_path, capsys, monkeypatch, queries, rule):
    figures = {"map_all": 0.5, "map_200": 0.5, "map_interpolated": 0.5}
    figures |= {"precision": {}, "accuracy": {}, "instance_accuracy": {}, "gallery_curve": []}
    report = EvaluationReport.model_construct(
        **figures,
        queries=100,
        gallery=50,
        with_neighbours=GalleryFigures.model_construct(**figures),
        instance_queries=queries,
        instance_rule=rule,
        trained_classes=0,
    )
    monkeypatch.setattr(training.commands, "measure", lambda *_, **__: report)
    command = ["evaluate", "--model", str(STARTER_MODEL), "--data", str(tmp_path), "--device", "cpu"]
    assert run_command(TRAINING, command) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["instance pairs"].strip() == f"{queries} queries, {rule}"


def test_calibrate_writes_into_the_bundle(tiny_bundle, shapes, tmp_path, capsys, monkeypatch):
    model = tmp_path / "model"
    digest = copy_bundle(tiny_bundle, model).digest
    fitted = Calibration(coefficients=(Coefficients(dimensions=1, slope=1, size=0, offset=0),), classes=10, queries=20)
    given = []
    monkeypatch.setattr(training.commands, "fit_calibration", lambda *arguments: given.append(arguments) or fitted)
    command = ["calibrate", "--model", str(model), "--data", str(shapes), "--cache", str(tmp_path), "--device", "cpu"]
    assert run_command(TRAINING, command) == 0
    assert "20 sketches of 10 classes" in capsys.readouterr().out
    assert given[0][3] == {"circle", "line", "square", "triangle"} - set(read_manifest(model).training.classes)
    assert read_manifest(model).calibration == fitted
    assert read_manifest(model).digest == digest


def test_calibrate_says_what_it_lacks(tiny_bundle, shapes, tmp_path, capsys):
    before = copy_bundle(tiny_bundle, tmp_path / "model")
    command = ["calibrate", "--model", str(tmp_path / "model"), "--data", str(shapes), "--cache", str(tmp_path)]
    assert run_command(TRAINING, [*command, "--device", "cpu"]) == 1
    assert "10 are needed" in capsys.readouterr().err.splitlines()[-1]
    assert read_manifest(tmp_path / "model") == before
