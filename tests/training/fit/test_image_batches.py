"""Batches of images: reproducible by step, whatever was asked for before."""

import pytest
import torch

from training.data.pairs import load_data
from training.fit.image_batches import ImageBatches
from training.model.backbones import Backbone
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing


class _Backbone(Backbone):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.widths = (4,)


@pytest.fixture
def encoders() -> PairedEncoders:
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=HeadConfig(features=4, dim=2))
    return build_encoders(PairedEncodersConfig(backbone="none", sketch=config, photo=config), _Backbone())


@pytest.fixture
def batches(shapes, encoders):
    opened = []

    def build(**options):
        settings = {"batch_size": 6, "seed": 3, "device": torch.device("cpu")} | options
        opened.append(ImageBatches(load_data(shapes), encoders, **settings))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


def test_a_step_is_the_same_in_any_order(batches):
    forward, resumed = batches(), batches()
    expected = [forward(step) for step in range(3)]
    for step in (2, 0, 1):
        for left, right in zip(resumed(step), expected[step], strict=True):
            assert torch.equal(left, right)


def test_shapes_and_normalisation(batches):
    batch = batches()(0)
    assert batch.x.shape == batch.y.shape == (6, 3, 32, 32)
    assert batch.labels.shape == (6,)
    assert float(batch.x.max()) == pytest.approx(1.0)
    assert float(batch.x.min()) >= -1
