import numpy as np
import pytest
from pydantic import ValidationError

from training.model.bundle import copy_bundle, load_bundle, set_calibration
from training.model.calibration import Calibration, Coefficients, score_spread
from training.model.gallery_order import order_of_photos
from training.model.manifest import read_manifest

NARROW = Coefficients(dimensions=4, slope=1.0, size=-0.2, offset=0.5)
WIDE = Coefficients(dimensions=16, slope=3.0, size=-0.6, offset=-0.5)
CALIBRATION = Calibration(coefficients=(NARROW, WIDE), classes=10, queries=100)


def test_relevance_is_the_logistic_function_of_deviations_by_spread():
    found = CALIBRATION.relevance(np.array([-2.0, 0.0, 4.0]), 2.0, 4, 100)
    logits = np.array([-1.0, 0.0, 2.0]) - 0.2 * np.log(100) + 0.5
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)))


def test_numbers_of_dimensions_between_are_interpolated_and_others_take_the_nearest():
    one = np.array([1.0])
    between = 2.0 - 0.4 * np.log(10)
    assert CALIBRATION.relevance(one, 1.0, 8, 10)[0] == pytest.approx(1 / (1 + np.exp(-between)))
    assert CALIBRATION.relevance(one, 1.0, 1, 10) == CALIBRATION.relevance(one, 1.0, 4, 10)
    assert CALIBRATION.relevance(one, 1.0, 99, 10) == CALIBRATION.relevance(one, 1.0, 16, 10)


def test_no_score_overflows():
    found = CALIBRATION.relevance(np.array([-1e30, 0.0, 1e30]), 0.0, 16, 0)
    assert found[0] == 0
    assert found[2] == 1
    assert 0 < found[1] < 1


def test_more_score_cannot_be_worse():
    with pytest.raises(ValidationError):
        Coefficients(dimensions=4, slope=-1.0, size=0, offset=0)


def test_spread_is_the_deviation_of_the_scores_over_the_photos():
    generator = np.random.default_rng(0)
    photos = (generator.standard_normal((5000, 6)) * [3, 2, 1, 1, 0.5, 0.1] + 1).astype(np.float32)
    sketches = generator.standard_normal((4, 6)).astype(np.float32)
    order = order_of_photos(photos, [3.0, 2, 1, 1, 0.5, 0.1])
    for dimensions in (2, 6):
        scores = order.sketches(sketches)[:, :dimensions] @ order.photos(photos)[:, :dimensions].T
        np.testing.assert_allclose(
            score_spread(order, order.sketches(sketches), dimensions), scores.std(axis=1), rtol=0.02
        )


def test_a_calibration_changes_neither_encoders_nor_digest(tiny_bundle, tmp_path):
    before = copy_bundle(tiny_bundle, tmp_path / "model")
    after = set_calibration(tmp_path / "model", CALIBRATION)
    assert after.digest == before.digest
    assert read_manifest(tmp_path / "model").calibration == CALIBRATION
    assert load_bundle(tmp_path / "model", "cpu").manifest.model_copy(update={"calibration": None}) == before
