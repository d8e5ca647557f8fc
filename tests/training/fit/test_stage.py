"""One training of heads on features that stand for a backbone's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.base.errors import DivergenceError
from training.data.pairs import Group, PairedData
from training.features.paired import FeatureSet, head_embeddings
from training.fit.head_parameters import apply_closed_form, blend_heads
from training.fit.recipe import Recipe
from training.fit.run_log import RunLog
from training.fit.stage import Stage
from training.model.backbones import Backbone
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing

CLASSES, EACH, FEATURES = 5, 6, 8


class _Backbone(Backbone):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.widths = (FEATURES,)


@pytest.fixture
def features() -> FeatureSet:
    """Noisy copies of one centre for each class, shifted and scaled for either modality."""
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(CLASSES, FEATURES)), EACH, axis=0)
    x, y = ((centres + 0.3 * random.normal(size=centres.shape)) for _ in range(2))
    rows = [tuple(range(EACH * label, EACH * (label + 1))) for label in range(CLASSES)]
    groups = tuple(Group(f"class {label}", row, row) for label, row in enumerate(rows))
    sketches, photos = (tuple(Path(f"{n}{suffix}") for n in range(len(x))) for suffix in (".png", ".jpg"))
    data = PairedData(sketches, photos, groups)
    return FeatureSet(data, (3 * x + 1).astype(np.float32), (y - 2).astype(np.float32))


def stage(out: Path, **choices) -> Stage:
    recipe = Recipe(**({"tune": "heads", "epochs": 3, "batch_size": 8, "dim": 4, "seed": 1} | choices))
    config = EncoderConfig(
        preprocessing=Preprocessing(size=32), head=HeadConfig(features=FEATURES, dim=4, norm=recipe.photo_norm)
    )
    encoders = build_encoders(
        PairedEncodersConfig(backbone="none", sketch=config, photo=config, share_head=recipe.share_head), _Backbone()
    )
    return Stage("choose", out, "x", recipe, encoders, RunLog(out))


def scores(each: Stage, features: FeatureSet) -> np.ndarray:
    encoders = each.encoders
    return head_embeddings(encoders.sketch, features.x) @ head_embeddings(encoders.photo, features.y).T


def matches(each: Stage, features: FeatureSet) -> float:
    """The share of sketches whose best photo is of their class."""
    best = scores(each, features).argmax(axis=1)
    return float((best // EACH == np.arange(len(best)) // EACH).mean())


def test_training_leaves_a_checkpoint_and_figures_under_the_name_of_the_stage(features, tmp_path):
    history = stage(tmp_path).train(features)
    assert [record.epoch for record in history] == [1, 2, 3]
    assert (tmp_path / "checkpoint-choose.safetensors").exists()
    assert (tmp_path / "metrics.jsonl").read_text().count('"stage": "choose"') == 3


def test_where_nothing_is_trained_the_closed_form_finds_classes(features, tmp_path):
    closed = stage(tmp_path, tune="none")
    assert closed.train(features) == []
    assert not list(tmp_path.iterdir())
    closed.refit(features, 0.1)
    assert matches(closed, features) > 0.9


def test_random_heads_learn_to_find_classes(features, tmp_path):
    choices = {"init": "random", "learning_rate": 0.02, "epochs": 40, "mu": 4.0}
    trained = stage(tmp_path, **choices)
    history = trained.train(features)
    assert history[-1].loss < history[0].loss - 0.3
    assert matches(trained, features) > 0.9


def test_canonical_form_orders_coordinates_and_keeps_scores(features, tmp_path):
    trained = stage(tmp_path, share_head=False)
    trained.train(features)
    before = scores(trained, features)
    form = trained.refit(features, None)
    np.testing.assert_allclose(scores(trained, features), before, rtol=1e-3, atol=1e-3)
    assert form.spectrum.tolist() == sorted(form.spectrum, reverse=True)
    photos = head_embeddings(trained.encoders.photo, features.y)
    np.testing.assert_allclose((photos**2).mean(axis=0), form.spectrum, rtol=1e-3, atol=1e-4)


def test_heads_that_are_not_finite_are_named(features, tmp_path):
    trained = stage(tmp_path)
    trained.train(features)
    with torch.no_grad():
        trained.encoders.photo.head.body.weight[0, 0] = torch.inf
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        trained.refit(features, None)


@pytest.mark.parametrize("tune", ["none", "heads"])
def test_each_feature_may_have_variance_one(features, tmp_path, tune):
    uneven = replace(features, y=features.y * np.geomspace(1e-3, 1e3, FEATURES, dtype=np.float32))
    deviations = {}
    for unit in ("blocks", "features"):
        trained = stage(tmp_path / unit, tune=tune, epochs=1, standardise=unit)
        (tmp_path / unit).mkdir()
        trained.train(uneven)
        trained.refit(uneven, 0.1)
        deviations[unit] = (uneven.y / trained.encoders.photo.head.scale.numpy()).std(axis=0)
    np.testing.assert_allclose(deviations["features"], 1, rtol=1e-3)
    assert np.square(deviations["blocks"]).mean() == pytest.approx(1, rel=1e-3)
    assert deviations["blocks"].min() < 1e-3


def test_blended_heads_score_photos_as_the_sum_of_both_kernels(features, tmp_path):
    """Where there are coordinates enough for both."""
    start = stage(tmp_path, tune="none", photo_norm="none")
    start.refit(features, 10.0)
    own = stage(tmp_path, tune="none", photo_norm="none")
    moments = own.standardised_moments(features)
    apply_closed_form(own.encoders, features, moments, 0.1)
    z = (features.y - own.encoders.photo.head.mean.numpy()) / own.encoders.photo.head.scale.numpy()
    parts = [z @ each.encoders.photo.head.body.weight.detach().numpy().T for each in (start, own)]
    scaled = [0.5**0.5 * part / np.linalg.norm(part, axis=1).mean() for part in parts]
    expected = np.concatenate(scaled, axis=1)
    values = np.linalg.eigvalsh(expected.T @ expected / len(expected))[::-1][:4]
    blend_heads(own.encoders, start.encoders, features, moments, 0.5)
    found = z @ own.encoders.photo.head.body.weight.detach().numpy().T
    np.testing.assert_allclose(found.T @ found / len(found), np.diag(values), atol=1e-5)
