import pytest
import torch

from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import DataError
from training.data.pairs import load_data
from training.evaluation.precision import measured_classes
from training.inference.runners import build_runner
from training.model.bundle import copy_bundle, load_bundle, save_bundle
from training.model.manifest import TrainingRecord, read_manifest


@pytest.fixture(scope="module")
def quantised(tiny_bundle, shapes, tmp_path_factory):
    """A bundle that the command quantised, and the cache."""
    root = tmp_path_factory.mktemp("quantised")
    copy_bundle(tiny_bundle, root / "model")
    command = ["quantize", "--model", str(root / "model"), "--data", str(shapes), "--cache", str(root / "cache")]
    assert run_command(TRAINING, command) == 0
    return root / "model", root / "cache"


def test_what_is_kept_is_measured(quantised, tiny_bundle):
    model, _ = quantised
    manifest = read_manifest(model)
    assert manifest.digest == read_manifest(tiny_bundle).digest
    assert set(manifest.int8.figures) == {"mAP", "acc@1"}  # the files of these shapes say of no pair which it is
    assert (manifest.int8.queries, manifest.int8.instance_queries) == (12, 0)  # of half of the classes
    assert all(0 < figure.fp32 <= 1 and 0 < figure.int8 <= 1 for figure in manifest.int8.figures.values())
    assert min(manifest.int8.cosines.values()) > 0.9


def test_the_model_runs_in_eight_bits(quantised):
    bundle = load_bundle(quantised[0], "cpu")
    runner = build_runner(bundle.photo, precision="int8", int8=bundle.int8("photo"), cache=quantised[1] / "onnx")
    assert runner(torch.zeros(1, 3, 64, 64)).shape == (1, 16)


def test_photos_alone_are_enough(tiny_bundle, shapes, tmp_path, capsys):
    copy_bundle(tiny_bundle, tmp_path / "model")
    command = ["quantize", "--model", str(tmp_path / "model"), "--photos", str(shapes / "photo")]
    assert run_command(TRAINING, [*command, "--cache", str(tmp_path)]) == 0
    assert read_manifest(tmp_path / "model").int8.instance_queries == 24  # two drawings of half of the photos
    assert "acc@10, instance" in capsys.readouterr().out


@pytest.mark.parametrize("sources", [[], ["--data", "data", "--photos", "photos"]])
def test_one_source_is_needed(tiny_bundle, sources, capsys):
    assert run_command(TRAINING, ["quantize", "--model", str(tiny_bundle), *sources]) != 0
    assert "give either --data or --photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trained", "expected"),
    [((), 2), (("circle",), 3), (("circle", "line", "square"), 1)],
)
def test_classes_of_the_training_are_not_measured(tiny_bundle, shapes, tmp_path, trained, expected):
    bundle = load_bundle(tiny_bundle, "cpu")
    save_bundle(tmp_path, bundle.encoders, bundle.spectrum, TrainingRecord(classes=trained))
    found = measured_classes(load_bundle(tmp_path, "cpu"), load_data(shapes), None)
    assert len(found) == expected
    assert not set(found) & set(trained)


def test_a_model_of_all_classes_cannot_be_measured(tiny_bundle, shapes, tmp_path):
    bundle, data = load_bundle(tiny_bundle, "cpu"), load_data(shapes)
    save_bundle(tmp_path, bundle.encoders, bundle.spectrum, TrainingRecord(classes=data.classes))
    with pytest.raises(DataError, match="trained on every class"):
        measured_classes(load_bundle(tmp_path, "cpu"), data, None)
