from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData
from training.evaluation.calibration import (
    FEWEST_CLASSES,
    _best,
    calibration_error,
    fit_calibration,
    found_by_sketches,
    reliability,
)
from training.features.paired import FeatureSet
from training.model.heads import Head, HeadConfig

DIM = 6
CLASSES = [f"class{number:02}" for number in range(30)]
SPECTRUM = [1.0] * DIM


@pytest.fixture
def encoders():
    head = Head(HeadConfig(features=DIM, dim=DIM), body=torch.nn.Identity())
    return SimpleNamespace(sketch=SimpleNamespace(head=head), photo=SimpleNamespace(head=head))


def features(noise, seed=0, classes=CLASSES, each=8):
    """Sketches and photos scattered around one point for each class."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((len(classes), DIM))
    x, y = (
        (np.repeat(centres, each, axis=0) + noise * generator.standard_normal((len(classes) * each, DIM))).astype(
            np.float32
        )
        for _ in range(2)
    )
    rows = [tuple(range(k * each, (k + 1) * each)) for k in range(len(classes))]
    groups = tuple(Group(label, part, part) for label, part in zip(classes, rows, strict=True))
    sketches, photos = ([Path(f"{kind}{row}.png") for row in range(len(x))] for kind in ("sketch", "photo"))
    return FeatureSet(PairedData(tuple(sketches), tuple(photos), groups, InstancePairs({})), x, y)


def test_relevance_is_calibrated_on_other_classes(encoders):
    data = features(0.3)
    calibration = fit_calibration(data, encoders, SPECTRUM, CLASSES[:15])
    assert (calibration.classes, calibration.queries) == (15, 120)
    found = found_by_sketches(data, encoders, SPECTRUM, CLASSES[15:], [DIM])[DIM]
    relevance = found.relevance(calibration, DIM)
    assert calibration_error(relevance, found.relevant) < 0.1
    assert relevance[found.relevant].mean() > relevance[~found.relevant].mean() + 0.2


def test_what_finds_nothing_by_its_scores_gets_the_same_low_relevance(encoders):
    data = features(noise=50.0)
    calibration = fit_calibration(data, encoders, SPECTRUM, CLASSES)
    found = found_by_sketches(data, encoders, SPECTRUM, CLASSES, [DIM])[DIM]
    assert found.relevance(calibration, DIM).max() < 0.3


def test_every_search_is_made_with_and_without_something_to_find(encoders):
    found = found_by_sketches(features(noise=0.01), encoders, SPECTRUM, CLASSES[:5], [2, DIM])
    assert list(found) == [2, DIM]
    results = found[DIM]
    everything = results.photos == len(CLASSES) * 8
    assert everything.sum() == 5 * 8 * 20
    assert results.relevant[everything].any()
    without = results.photos == (len(CLASSES) - 1) * 8
    assert without.sum() == 5 * 8 * 20
    assert not results.relevant[without].any()


def test_too_few_classes_fit_nothing(encoders):
    data = features(noise=0.3)
    assert fit_calibration(data, encoders, SPECTRUM, CLASSES[: FEWEST_CLASSES - 1]) is None
    assert fit_calibration(data, encoders, SPECTRUM, CLASSES[:FEWEST_CLASSES]) is not None


def test_the_error_is_the_distance_of_the_diagram_from_the_diagonal():
    relevance, relevant = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, True, True, True])
    np.testing.assert_allclose(reliability(relevance, relevant), [[0.05, 0.5, 2], [0.95, 1.0, 2]])
    assert calibration_error(relevance, relevant) == pytest.approx((0.45 + 0.05) / 2)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


@pytest.mark.parametrize("count", [3, 20, 21, 300])
def test_the_first_results_are_those_of_sorting_all(count):
    random = np.random.default_rng(count)
    scores = random.integers(-5, 5, count).astype(np.float32)
    scores[random.random(count) < 0.3] = -np.inf
    assert _best(scores).tolist() == np.argsort(-scores, kind="stable")[:20].tolist()
