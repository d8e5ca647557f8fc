"""Outlines of photos as dark strokes on white."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.data.line_drawings import line_drawing


@pytest.fixture
def disc():
    image = Image.new("RGB", (200, 120), (40, 90, 160))
    ImageDraw.Draw(image).ellipse((70, 30, 130, 90), fill=(240, 200, 60))
    return image


def test_draws_the_outline_and_nothing_else(disc):
    drawing = np.asarray(line_drawing(disc, np.random.default_rng(0), 128).convert("L"))
    rows, columns = np.nonzero(drawing < 128)
    radii = np.hypot((columns + 0.5 - 64) * 200 / 120, rows + 0.5 - 64) * 120 / 128
    assert len(rows) > 50
    assert np.abs(radii - 30).max() < 8  # pixels of the photo
    assert drawing[64, 64] == 255


def test_every_call_varies_and_a_seed_repeats(disc):
    random = np.random.default_rng(0)
    first, second = line_drawing(disc, random, 96), line_drawing(disc, random, 96)
    assert first.size == (96, 96)
    assert first.mode == "RGB"
    assert first.tobytes() != second.tobytes()
    assert line_drawing(disc, np.random.default_rng(0), 96).tobytes() == first.tobytes()


def test_a_plain_photo_gives_blank_paper():
    drawing = line_drawing(Image.new("RGB", (50, 50), (9, 99, 199)), np.random.default_rng(0), 64)
    assert np.asarray(drawing).min() == 255
