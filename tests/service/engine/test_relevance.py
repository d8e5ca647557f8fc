import numpy as np
import pytest

from index.gallery.searcher import Searcher
from training.model.bundle import load_bundle, set_calibration
from training.model.calibration import Calibration, Coefficients
from training.model.images import open_image

PNG = {"Content-Type": "image/png"}
CALIBRATION = Calibration(
    coefficients=(
        Coefficients(dimensions=2, slope=0.5, size=-0.1, offset=0.0),
        Coefficients(dimensions=12, slope=2.0, size=-0.5, offset=1.0),
    ),
    classes=10,
    queries=100,
)


@pytest.fixture
def calibrated(own_gallery, start):
    set_calibration(own_gallery / "model", CALIBRATION)
    return start(gallery=own_gallery)


def results(client, sketch, **options):
    response = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 24} | options)
    assert response.status_code == 200, response.text
    return response.json()["results"]


@pytest.mark.parametrize("dimensions", [2, 12])
def test_relevance_is_that_of_the_scores_spread_over_the_gallery(calibrated, own_gallery, sketch, dimensions):
    found = results(calibrated, sketch, dimensions=dimensions)
    query = load_bundle(own_gallery / "model", "cpu").encode_sketches([open_image(sketch)])
    order = Searcher.open(own_gallery, "cpu").order
    spread = np.sqrt((order.sketches(query)[0, :dimensions].astype(float) ** 2 * order.spectrum[:dimensions]).sum())
    z = (np.array([result["score"] for result in found]) - order.baseline(query)) / spread
    slope, size, offset = (0.5, -0.1, 0.0) if dimensions == 2 else (2.0, -0.5, 1.0)
    expected = 1 / (1 + np.exp(-(slope * z + size * np.log(24) + offset)))
    np.testing.assert_allclose([result["relevance"] for result in found], expected, rtol=1e-3)
    assert len({result["relevance"] for result in found}) > 1


def test_results_of_low_relevance_are_cut(calibrated, sketch):
    whole = results(calibrated, sketch)
    threshold = whole[4]["relevance"]
    kept = results(calibrated, sketch, min_relevance=threshold)
    assert kept == [result for result in whole if result["relevance"] >= threshold]
    assert 0 < len(kept) < len(whole)
    assert results(calibrated, sketch, min_relevance=1) == []


def test_only_a_single_sketch_has_a_relevance(calibrated, sketch):
    assert results(calibrated, sketch, positive="1")[0]["relevance"] is None
    assert results(calibrated, sketch, expand=0.25)[0]["relevance"] is None
    answer = calibrated.post("/v1/search", json={"photo_id": 1})
    assert answer.json()["results"][0]["relevance"] is None
    refused = calibrated.post("/v1/search", json={"photo_id": 1, "min_relevance": 0.5})
    assert refused.status_code == 422
    assert "single sketch" in refused.json()["detail"]


def test_without_a_calibration_there_is_no_relevance(client, sketch):
    assert {result["relevance"] for result in results(client, sketch)} == {None}
    refused = client.post("/v1/search", content=sketch, headers=PNG, params={"min_relevance": 0.5})
    assert refused.status_code == 422
    assert "svdraw calibrate" in refused.json()["detail"]
