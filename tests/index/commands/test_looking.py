import json

import numpy as np
import pytest
from PIL import Image

from index.__main__ import INDEX
from index.gallery.relevance import hit_relevance
from index.gallery.searcher import Searcher
from training.base.command_line import run_command
from training.drawings.ink import BLANK
from training.model.bundle import load_bundle, set_calibration
from training.model.calibration import Calibration, Coefficients
from training.model.images import open_image


@pytest.fixture
def gallery(build, shapes):
    return build(shapes / "photo")[0]


@pytest.fixture
def calibrated(gallery):
    """The gallery with a model that tells relevance: about a half, more for higher scores."""
    steep = Coefficients(dimensions=1, slope=1, size=0, offset=0)
    set_calibration(gallery / "model", Calibration(coefficients=(steep,), classes=10, queries=10))
    return gallery


@pytest.fixture
def sketch(shapes):
    return shapes / "sketch" / "circle" / "circle-1.png"


@pytest.fixture
def search(capsys):
    def search(gallery, sketch, *options):
        arguments = ["search", "--gallery", gallery, "--sketch", sketch, *options]
        status = run_command(INDEX, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return search


def test_relevance_is_printed_and_cut_by(calibrated, sketch, search):
    results = json.loads(search(calibrated, sketch, "--limit", 24, "--json")[1])["results"]
    bundle, searcher = load_bundle(calibrated / "model", "cpu"), Searcher.open(calibrated, "cpu")
    query = bundle.encode_sketches([open_image(sketch)])
    [hits] = searcher.search(query, 24, dimensions=bundle.default_dimensions)
    expected = hit_relevance(searcher, bundle.manifest.calibration, query[0], bundle.default_dimensions, hits)
    np.testing.assert_allclose([result["relevance"] for result in results], expected, atol=1e-6)
    assert expected == sorted(expected, reverse=True)
    assert 0 < expected[-1] < expected[0] < 1
    least = expected[5]
    cut = json.loads(search(calibrated, sketch, "--limit", 24, "--json", "--min-relevance", least - 1e-6)[1])["results"]
    assert cut == results[:6]
    first = search(calibrated, sketch, "--limit", 1)[1].split()
    assert first[:3] == [f"{hits[0].score:.4f}", f"{expected[0]:.1%}", str(hits[0].id)]


def test_without_a_calibration_there_is_no_relevance(gallery, sketch, search):
    results = json.loads(search(gallery, sketch, "--json")[1])["results"]
    assert [result["relevance"] for result in results] == [None] * 10
    assert "%" not in search(gallery, sketch, "--limit", 1)[1]
    status, _, errors = search(gallery, sketch, "--min-relevance", 0.5)
    assert status == 1
    assert "--min-relevance cannot be used: the gallery's model has no calibration; `svdraw calibrate`" in errors


@pytest.mark.parametrize("colour", ["white", "black", (120, 130, 140)])
def test_a_blank_sketch_is_refused(gallery, tmp_path, search, colour):
    Image.new("RGB", (90, 60), colour).save(tmp_path / "blank.png")
    status, out, errors = search(gallery, tmp_path / "blank.png")
    assert (status, out) == (1, "")
    assert f"blank.png: {BLANK}" in errors


def test_photos_of_a_colour_are_searched(gallery, sketch, search):
    results = json.loads(search(gallery, sketch, "--json", "--filter", '{"color": ["#c01010", "teal"]}')[1])["results"]
    assert results
    assert all(set(result["colors"]) & {"red", "teal"} for result in results)
    status, _, errors = search(gallery, sketch, "--filter", '{"color": "reddish"}')
    assert status == 1
    assert "a colour is #rrggbb or one of black" in errors
