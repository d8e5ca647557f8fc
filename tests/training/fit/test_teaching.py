"""What a recipe asks training to descend, on embeddings and features at random."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData
from training.features.paired import FeatureSet
from training.fit import teaching
from training.fit.contrastive import ContrastiveLoss
from training.fit.distillation import SoftTargets
from training.fit.losses import NestedLoRALoss
from training.fit.recipe import Recipe
from training.fit.sampling import Batch
from training.fit.teaching import Embedded, build_teacher
from training.model.backbones import build_backbone
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing

ROWS = torch.arange(6)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture(scope="module")
def encoders() -> PairedEncoders:
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=HeadConfig(features=256, dim=4))
    names = PairedEncodersConfig(backbone="test_efficientnet", sketch=config, photo=config)
    return build_encoders(names, build_backbone("test_efficientnet", multi_scale=False))


@pytest.fixture
def features() -> FeatureSet:
    files = [tuple(Path(f"{n}{suffix}") for n in range(6)) for suffix in (".png", ".jpg")]
    groups = tuple(Group(f"class {n}", (2 * n, 2 * n + 1), (2 * n, 2 * n + 1)) for n in range(3))
    values = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
    return FeatureSet(PairedData(*files, groups), *values)


@pytest.fixture
def batch() -> tuple[Embedded, Batch]:
    torch.manual_seed(0)
    embedded = Embedded(torch.randn(6, 4), torch.randn(6, 4), torch.randn(6, 8), torch.randn(6, 8))
    return embedded, Batch(embedded.x, embedded.y, LABELS, ROWS, ROWS)


@pytest.fixture
def classifier(monkeypatch) -> nn.Linear:
    torch.manual_seed(1)
    found = nn.Linear(8, 5)
    monkeypatch.setattr(teaching, "load_classifier", lambda name: found)
    return found


@pytest.mark.parametrize("tune", ["heads", "all"])
def test_nested_lora_is_the_objective_by_default(encoders, features, batch, tune):
    embedded, drawn = batch
    actual = build_teacher(Recipe(tune=tune), encoders, features)(*batch)
    torch.testing.assert_close(actual, NestedLoRALoss(4)(embedded.f, embedded.g, drawn.labels))


def test_the_contrastive_loss_trains_backbones_only(encoders, features, batch):
    embedded, drawn = batch
    matches = (LABELS[:, None] == LABELS).float()
    choices = {"teacher": "contrastive", "temperature": 0.3}
    actual = build_teacher(Recipe(**choices), encoders, features)(*batch)
    torch.testing.assert_close(actual, ContrastiveLoss(0.3)(embedded.f, embedded.g, matches))
    heads = build_teacher(Recipe(tune="heads", **choices), encoders, features)(*batch)
    torch.testing.assert_close(heads, NestedLoRALoss(4)(embedded.f, embedded.g, drawn.labels))


def test_both_losses_are_summed_and_exact_matches_weigh_as_the_recipe_says(encoders, features, batch):
    choices = {"depicted": 7.0, "temperature": 0.2}
    alone = [build_teacher(Recipe(teacher=name, **choices), encoders, features) for name in ("nested", "contrastive")]
    both = build_teacher(Recipe(teacher="both", **choices), encoders, features)
    torch.testing.assert_close(both(*batch), sum(teacher(*batch) for teacher in alone))
    pairs = InstancePairs(dict(zip(features.data.sketches, features.data.photos, strict=True)), "by name")
    named = replace(features, data=replace(features.data, instances=pairs))
    embedded, _ = batch
    matches = (LABELS[:, None] == LABELS).float() + 7 * torch.eye(6)
    actual = build_teacher(Recipe(teacher="contrastive", **choices), encoders, named)(*batch)
    torch.testing.assert_close(actual, ContrastiveLoss(0.2)(embedded.f, embedded.g, matches))


@pytest.mark.parametrize("teacher", ["nested", "contrastive", "both"])
def test_soft_targets_are_added_with_their_weight(encoders, features, batch, classifier, teacher):
    embedded, _ = batch
    plain, both = (
        build_teacher(Recipe(teacher=teacher, distillation=weight), encoders, features)(*batch) for weight in (0, 0.5)
    )
    kept = SoftTargets(classifier, features)(embedded.x, embedded.y, ROWS, ROWS)
    torch.testing.assert_close(both, plain + 0.5 * kept)


@pytest.mark.parametrize("choices", [{"start": Path("model")}, {"tune": "heads"}])
def test_nothing_is_distilled_from_a_start_model_or_into_frozen_backbones(
    encoders, features, batch, classifier, choices
):
    actual, plain = (build_teacher(Recipe(distillation=w, **choices), encoders, features)(*batch) for w in (1, 0))
    torch.testing.assert_close(actual, plain)


def test_a_backbone_without_classifier_is_trained_without_soft_targets(encoders, features, batch, monkeypatch, caplog):
    monkeypatch.setattr(teaching, "load_classifier", lambda name: None)
    caplog.set_level("INFO")
    actual, plain = (build_teacher(Recipe(distillation=weight), encoders, features)(*batch) for weight in (1, 0))
    torch.testing.assert_close(actual, plain)
    assert "nothing to distil" in caplog.text


def test_the_contrastive_loss_needs_heads_with_a_closed_form():
    with pytest.raises(ValueError, match="set teacher to nested"):
        Recipe(teacher="contrastive", init="random")
    assert Recipe(teacher="contrastive", init="random", tune="heads")
