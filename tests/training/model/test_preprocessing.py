"""Preprocessing: what encoders see does not depend on who resizes."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from training.model.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def scene():
    """A picture with smooth parts, noise and sharp edges, ``(600, 450)``."""
    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((600, 450), 3)
    noisy = np.clip(np.asarray(colours) + random.normal(0, 12, (450, 600, 3)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(noisy)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((150, 80, 420, 300), outline="black", width=7)
    draw.rectangle((30, 330, 200, 420), fill="white")
    return picture


def levels(preprocessing, tensor):
    """The grey levels that a tensor was made of, ``(size, size, 3)``."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return ((tensor * std + mean) * 255).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("options", [{}, {"fit": "pad"}, {"grayscale": True}, {"crop_to_ink": True}], ids=str)
@pytest.mark.parametrize("size", [(600, 450), (299, 299), (100, 60), (224, 224), (250, 1200), (2100, 1500)], ids=str)
def test_pytorch_resizes_as_pillow_does(scene, size, options):
    image, preprocessing = scene.resize(size), Preprocessing(**options)
    wanted = np.asarray(preprocessing.arrange(image).convert("RGB")).astype(float)
    difference = np.abs(levels(preprocessing, preprocessing(image)) - wanted)
    assert difference.max() < 2.1
    assert (difference > 0.1).mean() < 0.02


def test_values_are_normalised_by_channel():
    preprocessing = Preprocessing(size=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    tensor = preprocessing(Image.new("RGB", (40, 50), (255, 0, 51)))
    expected = torch.tensor([(1 - 0.1) / 0.5, (0 - 0.2) / 0.25, (0.2 - 0.3) / 2])[:, None, None].expand(3, 32, 32)
    torch.testing.assert_close(tensor, expected)
    torch.testing.assert_close(preprocessing.normalise(torch.full((2, 3, 32, 32), 0.2))[1, 2], expected[2])
