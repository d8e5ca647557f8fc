import numpy as np
import pytest
from PIL import Image, ImageColor

from index.errors import FilterError
from index.gallery.palette import PALETTE, color_names, color_shares, names_of_color

STREET = (118, 120, 122)


def names(image):
    return color_names(color_shares(image))


def with_subject(colour, box, *, ground=STREET, size=(300, 200)):
    """A picture of one colour with a part of another; the box is in shares of its sides."""
    image = Image.new("RGB", size, ground)
    width, height = size
    image.paste(colour, (int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height)))
    return image


@pytest.mark.parametrize("name", PALETTE)
def test_a_picture_of_a_named_colour_has_that_colour_alone(name):
    colour = (123, 74, 33) if name == "brown" else ImageColor.getrgb(name)  # what browsers call brown is a red
    assert names(Image.new("RGB", (40, 30), colour)) == [name]


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("red", (150, 25, 30)),
        ("orange", (230, 120, 30)),
        ("yellow", (230, 205, 60)),
        ("green", (70, 120, 50)),
        ("teal", (60, 160, 160)),
        ("blue", (60, 100, 170)),
        ("purple", (110, 60, 140)),
        ("pink", (235, 140, 170)),
    ],
)
@pytest.mark.parametrize("box", [(0.3, 0.35, 0.7, 0.73), (0.25, 0.55, 0.75, 0.85)])
def test_a_subject_of_a_seventh_of_the_picture_gives_it_its_colour(name, colour, box):
    assert names(with_subject(colour, box)) == ["gray", name]


@pytest.mark.parametrize("name", ["red", "brown", "black"])
def test_what_is_small_or_in_a_corner_gives_no_colour(name):
    assert names(with_subject(name, (0.45, 0.45, 0.55, 0.55))) == ["gray"]
    assert names(with_subject(name, (0, 0, 0.3, 0.3))) == ["gray"]


def test_a_frequent_colour_of_backgrounds_needs_more_room_than_others():
    box = (0.36, 0.36, 0.64, 0.64)
    assert names(with_subject("yellow", box, ground="blue")) == ["blue", "yellow"]
    brown = (123, 74, 33)
    assert names(with_subject(brown, box, ground="blue")) == ["blue"]
    assert names(with_subject(brown, (0.25, 0.25, 0.75, 0.75), ground="blue")) == ["brown", "blue"]


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (64, 64), (2000, 20)])
def test_pictures_of_any_shape_are_measured(size):
    assert names(Image.new("RGB", size, "green")) == ["green"]


def test_shares_fit_into_an_integer_of_sqlite_and_add_up():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    shares = color_shares(noise)
    steps = [shares >> 5 * number & 31 for number in range(len(PALETTE))]
    assert 0 <= shares < 2**63
    assert sum(steps) == pytest.approx(32, abs=6)  # each is rounded
    assert min(steps) >= 0


def test_colours_that_were_never_measured():
    assert color_names(None) is None
    assert color_names(0) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", ["red"]),
        (" Red ", ["red"]),
        ("grey", ["gray"]),
        ("Cyan", ["teal"]),
        ("#ff0000", ["red"]),
        ("#F00", ["red"]),
        ("#00ffff", ["teal"]),
        ("#d5d5d5", ["gray", "white"]),
        ("#ff5000", ["orange", "red"]),
    ],
)
def test_names_that_a_colour_means(text, expected):
    assert sorted(names_of_color(text)) == sorted(expected)


@pytest.mark.parametrize("value", ["", "reddish", "#ff00", "#ggg", "ff0000", "#ff0000ff", 3, True, None, ["red"]])
def test_what_is_no_colour_is_refused(value):
    with pytest.raises(FilterError, match="a colour is #rrggbb or one of black, white"):
        names_of_color(value)
