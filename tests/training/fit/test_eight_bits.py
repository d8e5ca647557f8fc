"""Runs that find by themselves how their model runs in eight bits."""

from functools import partial

import pytest
import torch

from training.base.artifacts import file_sha256
from training.fit import eight_bits
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.inference.runners import build_runner
from training.model.bundle import load_bundle
from training.model.quantisation import INT8_NAME, Comparison, Quantisation
from training.model.tensors import load_tensors


@pytest.fixture
def run(tiny_bundle, shapes, tmp_path):
    """Trains for one pass, from the tiny model."""

    def train(**choices):
        config = load_bundle(tiny_bundle, "cpu").encoders.config
        tiny = {"start": tiny_bundle, "backbone": config.backbone, "multi_scale": config.multi_scale, "dim": 8}
        sizes = {"image_size": 64, "training_size": 64, "epochs": 1, "line_drawings": 0}
        recipe = Recipe(**(tiny | sizes | {"quantize": True} | choices))
        return fit(shapes, tmp_path / "run", recipe, split=None, cache=tmp_path, device=torch.device("cpu"))

    return train


def test_ranges_are_those_of_the_last_backbone_and_figures_those_of_held_out_classes(run, tmp_path):
    manifest = run(tune="all")
    assert (manifest.int8.queries, manifest.int8.instance_queries) == (6, 0)  # one class of four is held out
    assert set(manifest.int8.figures) == {"mAP", "acc@1"}
    bundle = load_bundle(tmp_path / "run", "cpu")
    single, whole = (
        build_runner(bundle.photo, "onnx", precision, int8=bundle.int8("photo"), cache=tmp_path / "onnx")
        for precision in ("fp32", "int8")
    )
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cosines = torch.cosine_similarity(torch.from_numpy(single(images)), torch.from_numpy(whole(images)))
    assert cosines.min() > 0.9


@pytest.mark.parametrize(("tune", "times"), [("none", 1), ("all", 2)])
def test_ranges_are_found_again_where_the_backbone_was_trained_again(run, monkeypatch, tmp_path, tune, times):
    found = []

    def find(encoders, data, exports):
        found.append({"shared/input.range": torch.full((2,), float(len(found)))})
        return found[-1]

    figures = {"mAP": Comparison(fp32=0.5, int8=0.5, mixed=0.5)}
    record = partial(Quantisation, cosines={}, figures=figures, queries=6, instance_queries=0)
    monkeypatch.setattr(eight_bits, "find_int8", find)
    monkeypatch.setattr(eight_bits, "compare_precisions", lambda *args: lambda sha256: record(sha256=sha256))
    assert run(tune=tune).int8 == record(sha256=file_sha256(tmp_path / "run" / INT8_NAME))
    assert len(found) == times
    [written] = load_tensors(tmp_path / "run" / INT8_NAME).values()
    assert written.tolist() == [times - 1] * 2


def test_a_backbone_that_cannot_run_in_eight_bits_costs_no_training(run, monkeypatch, tmp_path, caplog):
    def fail(*args):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(eight_bits, "find_int8", fail)
    assert run(tune="none").int8 is None
    assert "no ranges for eight bits: no such operator" in caplog.text
    assert not (tmp_path / "run" / INT8_NAME).exists()


@pytest.mark.parametrize(
    ("choices", "images", "expected"),
    [
        ({}, 1000, True),
        ({}, 999, False),
        ({"tune": "none"}, 10**6, False),
        ({"quantize": False}, 10**6, False),
        ({"quantize": True, "tune": "none"}, 10, True),
    ],
    ids=str,
)
def test_who_is_quantised_without_being_told(choices, images, expected):
    assert Recipe(**choices).quantizes(images) == expected
