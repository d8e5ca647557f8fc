from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData
from training.features.paired import FeatureSet
from training.fit.distillation import SoftTargets, sketch_targets

SKETCHES, PHOTOS = (tuple(Path(f"{n}{suffix}") for n in range(4)) for suffix in (".png", ".jpg"))
GROUPS = (Group("cat", (0, 1), (0, 1)), Group("dog", (2,), (2, 3)), Group("dog", (3,), (3,)))
DATA = PairedData(SKETCHES, PHOTOS, GROUPS, InstancePairs({SKETCHES[1]: PHOTOS[0]}, "by name"))


@pytest.fixture
def features() -> FeatureSet:
    random = np.random.default_rng(0)
    return FeatureSet(DATA, *(random.normal(size=(4, 6)).astype(np.float32) for _ in range(2)))


@pytest.fixture
def classifier() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 5)


def test_a_sketch_looks_like_the_photos_of_its_class_and_the_one_it_depicts():
    beliefs = np.array([[0.8, 0.2], [0.4, 0.6], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    expected = [[0.6, 0.4], [0.7, 0.3], [0.5, 0.5], [0.75, 0.25]]
    np.testing.assert_allclose(sketch_targets(DATA, beliefs), expected, rtol=1e-6)


def test_the_loss_is_the_cross_entropy_of_both_modalities(features, classifier):
    targets = SoftTargets(classifier, features)
    x, y = torch.randn(2, 2, 6, dtype=torch.float32)
    sketches, photos = torch.tensor([3, 1]), torch.tensor([2, 0])
    beliefs = classifier(torch.from_numpy(features.y)[:, :3]).softmax(dim=1).detach()
    wanted = torch.from_numpy(sketch_targets(DATA, beliefs.numpy())), beliefs
    losses = [
        nn.functional.cross_entropy(classifier(inputs[:, :3]), targets[rows])
        for inputs, targets, rows in ((x, wanted[0], sketches), (y, wanted[1], photos))
    ]
    torch.testing.assert_close(targets(x, y, sketches, photos), sum(losses) / 2)


def test_photos_as_they_were_have_no_gradient_and_the_classifier_never_has(features, classifier):
    targets = SoftTargets(classifier, features)
    x, y = (torch.from_numpy(each).requires_grad_() for each in (features.x, features.y))
    targets(x, y, torch.arange(4), torch.arange(4)).backward()
    torch.testing.assert_close(y.grad, torch.zeros(4, 6), atol=1e-6, rtol=0)
    assert x.grad[:, :3].abs().max() > 1e-3
    assert not x.grad[:, 3:].any()  # the classifier reads the first block alone
    assert classifier.weight.grad is None
