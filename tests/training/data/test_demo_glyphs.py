import random

import numpy as np
import pytest
from PIL import Image

from training.base.errors import DataError
from training.data.demo_glyphs import (
    Emoji,
    demo_packages,
    draw_photo,
    draw_sketch,
    emoji_of_both_fonts,
    photo_font,
    random_jitter,
    sketch_font,
)

CASTLE = "\N{EUROPEAN CASTLE}"


def ink(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")) < 128


def extent(image: Image.Image) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(ink(image).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    return emoji_of_both_fonts()


def test_every_emoji_has_a_name_of_its_own_and_ink_in_both_fonts(emoji: list[Emoji]) -> None:
    names = [name for _, name in emoji]
    assert len(set(names)) == len(names) > 1400
    assert Emoji(CASTLE, "european-castle-1f3f0") in emoji
    assert Emoji("\U0001fae8", "shaking-face-1fae8") in emoji  # newer than Python 3.11's own names
    assert not {"0", " ", "\u200d", "\ufe0f"} & {character for character, _ in emoji}


def test_sketch_and_photo_fill_the_frame_alike() -> None:
    for picture in (
        draw_sketch(CASTLE, sketch_font(100, 0.5), 100),
        draw_photo(CASTLE, photo_font(100), 100),
    ):
        left, top, right, bottom = extent(picture)
        assert max(right - left, bottom - top) == pytest.approx(80, abs=3)
        assert left + right == pytest.approx(99, abs=3)
        assert top + bottom == pytest.approx(99, abs=3)


def test_a_sketch_is_grey_and_a_photo_in_colour() -> None:
    assert draw_sketch(CASTLE, sketch_font(64, 0.5), 64).mode == "L"
    photo = np.asarray(draw_photo(CASTLE, photo_font(64), 64)).astype(int)
    assert photo.shape == (64, 64, 3)
    assert (photo.max(axis=2) - photo.min(axis=2)).max() > 100
    assert (photo[0] == 255).all()


def test_weight_thickens_the_lines() -> None:
    amounts = [ink(draw_sketch(CASTLE, sketch_font(100, weight), 100)).sum() for weight in (0.0, 0.5, 1.0)]
    assert amounts == sorted(set(amounts))


def test_jitter_moves_the_drawing_but_keeps_it_inside() -> None:
    square, font = "\N{WHITE LARGE SQUARE}", sketch_font(100, 1.0)
    still = draw_sketch(square, font, 100)
    for seed in range(50):
        moved = draw_sketch(square, font, 100, random_jitter(random.Random(seed)))
        assert moved.tobytes() != still.tobytes()
        assert not ink(moved)[[0, -1]].any()
        assert not ink(moved)[:, [0, -1]].any()


def test_nothing_drawn_is_a_blank_picture() -> None:
    assert not ink(draw_sketch(" ", sketch_font(32, 0.5), 32)).any()


def test_missing_fonts_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.demo_glyphs.PACKAGES", ("no-such-font-package",))
    with pytest.raises(DataError, match=r'no-such-font-package.*pip install "svdraw\[demo\]"'):
        demo_packages()
