"""Outlines of photos as dark strokes on white."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.data.line_drawings import SIDE, line_drawings


@pytest.fixture
def disc():
    image = Image.new("RGB", (200, 120), (40, 90, 160))
    ImageDraw.Draw(image).ellipse((70, 30, 130, 90), fill=(240, 200, 60))
    return image


def test_draws_the_outline_and_nothing_else(disc):
    [drawing] = line_drawings(disc, np.random.default_rng(0), 1)
    rows, columns = np.nonzero(drawing < 128)
    radii = np.hypot((columns + 0.5 - SIDE / 2) * 200 / 120, rows + 0.5 - SIDE / 2) * 120 / SIDE
    assert len(rows) > 50
    assert np.abs(radii - 30).max() < 8  # pixels of the photo
    assert drawing[SIDE // 2, SIDE // 2] == 255


def test_every_drawing_varies_and_a_seed_repeats(disc):
    first, second = line_drawings(disc, np.random.default_rng(0), 2)
    assert first.shape == (SIDE, SIDE)
    assert set(np.unique(first)) == {0, 255}
    assert (first != second).any()
    [again] = line_drawings(disc, np.random.default_rng(0), 1)
    np.testing.assert_array_equal(again, first)


def test_specks_are_left_out():
    photo = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(photo).rectangle((100, 100, 103, 103), fill="black")  # its outline is shorter than any that is kept
    ImageDraw.Draw(photo).rectangle((20, 20, 70, 70), fill="black")
    for drawing in line_drawings(photo, np.random.default_rng(0), 8):
        rows, columns = np.nonzero(drawing == 0)
        assert len(rows)
        assert max(rows.max(), columns.max()) < 90


def test_a_plain_photo_gives_blank_paper():
    [drawing] = line_drawings(Image.new("RGB", (50, 50), (9, 99, 199)), np.random.default_rng(0), 1)
    assert drawing.min() == 255
