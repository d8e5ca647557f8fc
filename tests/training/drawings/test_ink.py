"""Drawings are found as they arrive: among specks, in frames, transparent, in any colour, on photographed paper."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from training.drawings.ink import find_drawing, is_blank
from training.model.images import open_image
from training.model.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=96, crop_to_ink=True)
SIDE = 400


def house(pen, left=0.2, top=0.2, side=0.6, width=6, fill="black"):
    """Walls, a roof, a door and a chimney, in a square whose place and side are shares of the canvas's width."""

    unit = pen.im.size[0]

    def at(*points):
        return [((left + side * x) * unit, (top + side * y) * unit) for x, y in points]

    pen.line(at((0, 0.45), (0, 1), (1, 1), (1, 0.45), (0, 0.45)), fill, width, joint="curve")
    pen.line(at((0, 0.45), (0.5, 0), (1, 0.45)), fill, width, joint="curve")
    pen.line(at((0.6, 1), (0.6, 0.65), (0.8, 0.65), (0.8, 1)), fill, width, joint="curve")
    pen.line(at((0.75, 0.22), (0.75, 0.02), (0.88, 0.02), (0.88, 0.34)), fill, width, joint="curve")


def canvas(ground="white", size=(SIDE, SIDE), mode="RGB", **options):
    image = Image.new(mode, size, ground)
    house(ImageDraw.Draw(image), **options)
    return image


def sent(image, kind="PNG", **options):
    """What is decoded of an image that was sent as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return open_image(buffer.getvalue())


def ink(image):
    """The ink that the encoder sees, cropped to itself and blurred, ``(48, 48)``, 1 where it is black."""
    dark = image.convert("L").point(lambda level: 255 - level)
    box = dark.point(lambda level: 255 * (level > 100)).getbbox()
    assert box is not None, "nothing is seen"
    assert max(box[2] - box[0], box[3] - box[1]) > 0.4 * image.width, "the drawing is small"
    return np.asarray(dark.crop(box).resize((48, 48)).filter(ImageFilter.GaussianBlur(2)), dtype=float)


def shows_house(image):
    """Whether the encoder sees the house and little else."""
    seen, expected = (ink(PREPROCESSING.arrange(each)) for each in (image, canvas()))
    return np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.6


def light(image, strength):
    """Light that falls off from the left to the right."""
    ramp = np.linspace(1, strength, image.width)[None, :, None]
    return Image.fromarray((np.asarray(image) * ramp).astype(np.uint8))


def photographed(image, seed=0):
    """Soft, noisy and compressed."""
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), dtype=float)
    noisy = soft + np.random.default_rng(seed).normal(0, 3, soft.shape)
    return sent(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG", quality=75)


def specked(count, **options):
    image = canvas(left=0.3, top=0.35, side=0.3, **options)
    places = np.random.default_rng(count).uniform(5, 40, (count, 2))
    for x, y in places:
        ImageDraw.Draw(image).ellipse((x - 2, y - 2, x + 2, y + 2), fill="black")
    return image


def framed(inset, width, ground="white", fill="black"):
    image = canvas(ground, fill=fill)
    ImageDraw.Draw(image).rectangle((inset, inset, SIDE - 1 - inset, SIDE - 1 - inset), outline=fill, width=width)
    return image


def transparent(colour, second=None):
    layer = Image.new("RGBA", (SIDE, SIDE), colour)
    if second:
        layer.paste(second, (0, 0, SIDE // 2, SIDE))
    layer.putalpha(canvas(0, mode="L", fill=255))
    return layer


def paper(step=0, squared=False, ground=(240, 240, 236), pen=(35, 60, 160), printed=(150, 175, 215), **options):
    image = Image.new("RGB", (480, 640), ground)
    lines = ImageDraw.Draw(image)
    for row in range(7, 640, step) if step else ():
        lines.line([(0, row), (480, row)], printed, 2)
    for column in range(5, 480, step) if squared else ():
        lines.line([(column, 0), (column, 640)], printed, 2)
    house(lines, **{"top": 0.4, "fill": pen, "width": 5} | options)
    return image


def shaded(image, start=430):
    """In the shadow of a hand, with a sharp edge."""
    pixels = np.asarray(image, dtype=float)
    rows, columns = np.mgrid[: image.height, : image.width]
    shadow = rows + 0.5 * columns > start
    return Image.fromarray((pixels * np.where(shadow, 0.55, 1)[:, :, None]).astype(np.uint8))


def on_table(page, angle=0.0, aslant=False, table=(62, 44, 30)):
    grain = np.random.default_rng(1).normal(0, 5, (800, 640, 1)) + np.asarray(table)
    scene = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    layer = page.convert("RGBA")
    if aslant:
        corners = (-30, -10, -10, 660, 500, 700, 505, -40)
        layer = layer.transform(layer.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    layer = layer.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    scene.paste(layer, ((640 - layer.width) // 2, (800 - layer.height) // 2), layer)
    return scene


CONDITIONS = {
    "one speck": specked(1),
    "specks": specked(6),
    "specks on black": specked(6, ground="black", fill="white").point(lambda level: level),
    "frame at the edge": framed(0, 4),
    "frame inside": framed(12, 3),
    "white frame on black": framed(0, 4, "black", "white"),
    "frame and JPEG": sent(framed(0, 3), "JPEG", quality=60),
    "black on transparent": sent(transparent("black")),
    "white on transparent": sent(transparent("white")),
    "coloured on transparent": sent(transparent((250, 220, 40))),
    "white and red on transparent": sent(transparent("white", (200, 40, 45))),
    "white on black": canvas("black", fill="white"),
    "grey on white": canvas(fill=(170, 170, 170)),
    "grey on grey": canvas((200, 200, 200), fill=(150, 150, 150)),
    "yellow on white": canvas(fill=(250, 225, 60)),
    "blue on cream": canvas((246, 240, 222), fill=(35, 60, 160)),
    "black on kraft": canvas((196, 160, 118), fill=(40, 36, 30)),
    "chalk on a board": canvas((40, 70, 55), fill=(225, 225, 215)),
    "JPEG of quality 10": sent(canvas(), "JPEG", quality=10),
    "thin lines": canvas(width=2),
    "thick lines": canvas(width=16),
    "a wide canvas": canvas(size=(SIDE, 200), top=0.1, left=0.3, side=0.3),
    "a tiny canvas": canvas(size=(64, 64), width=2),
    "a large canvas": canvas(size=(3000, 3000), width=30),
    "uneven light": photographed(light(paper(), 0.4)),
    "shadow": photographed(shaded(paper())),
    "nearly all in shadow": photographed(shaded(paper(ground=(232, 228, 212)), 200)),
    "pencil on paper": photographed(light(paper(pen=(120, 120, 122)), 0.7)),
    "kraft in uneven light": photographed(light(paper(ground=(196, 160, 118), pen=(35, 30, 30)), 0.6)),
    "board in uneven light": photographed(light(paper(ground=(60, 90, 75), pen=(235, 235, 230)), 0.6)),
    "lined paper": photographed(light(paper(24), 0.85)),
    "squared paper": photographed(light(paper(18, squared=True), 0.85)),
    "lined, drawn by a program": paper(24, ground="white"),
    "squared, drawn by a program": paper(20, squared=True, ground="white"),
    "squared, black pen": photographed(paper(20, squared=True, pen=(20, 20, 20))),
    "lined, turned": photographed(paper(24).rotate(2, fillcolor=(240, 240, 236), resample=Image.Resampling.BICUBIC)),
    "dark table": photographed(on_table(paper())),
    "dark table, plain": on_table(paper()).quantize(2).convert("RGB"),
    "light wood": photographed(on_table(paper(), table=(170, 125, 80))),
    "turned on a table": photographed(on_table(paper(), 5)),
    "aslant on a table": photographed(on_table(paper(), 3, aslant=True)),
    "lined on a table": photographed(on_table(paper(24), 3)),
    "letterboxed": sent(Image.new("RGB", (800, 800), "white")),
}
CONDITIONS["letterboxed"].paste(photographed(on_table(paper(), 3)), (80, 0))


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_drawing_is_seen_as_if_it_were_clean(name):
    assert shows_house(CONDITIONS[name])


def drawn(*shapes, size=SIDE):
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    for kind, *arguments in shapes:
        getattr(pen, kind)(*arguments, **({"width": 5} if kind in ("line", "arc") else {}))
    return image


def box_of(*bounds, **options):
    return ("rectangle", bounds, None, "black", 5)


GRID = [("line", [(x, 40), (x, 360)], "black") for x in range(40, 361, 64)]
GRID += [("line", [(40, y), (360, y)], "black") for y in range(40, 361, 64)]
CLEAN = {
    "house": canvas(),
    "small house": canvas(left=0.1, top=0.1, side=0.25),
    "house that touches the border": canvas(left=0, top=0, side=1),
    "window": drawn(box_of(40, 40, 360, 360), ("line", [(200, 40), (200, 360)], "black")),
    "window as large as the canvas": drawn(box_of(0, 0, 399, 399), ("line", [(200, 0), (200, 399)], "black")),
    "rectangle": drawn(box_of(40, 60, 360, 340)),
    "rectangle at the border": drawn(box_of(0, 0, 399, 399)),
    "door": drawn(box_of(100, 5, 300, 395), ("ellipse", (260, 190, 275, 205), "black")),
    "door as large as the canvas": drawn(box_of(8, 8, 392, 392), ("ellipse", (350, 190, 365, 205), "black")),
    "calendar": drawn(*GRID),
    "grid as large as the canvas": drawn(*[("line", [(x, 0), (x, 399)], "black") for x in range(20, 400, 40)]),
    "one dot": drawn(("ellipse", (195, 195, 203, 203), "black")),
    "dots": drawn(*[("ellipse", (x, y, x + 6, y + 6), "black") for x in (50, 200, 340) for y in (60, 190, 330)]),
    "exclamation mark": drawn(("line", [(200, 60), (200, 280)], "black"), ("ellipse", (194, 320, 206, 332), "black")),
    "silhouette": drawn(("ellipse", (40, 60, 360, 340), "black")),
    "silhouette with holes": drawn(("ellipse", (20, 20, 380, 380), "black"), ("ellipse", (90, 90, 300, 200), "white")),
    "silhouette at the border": drawn(("polygon", [(0, 399), (200, 0), (399, 399)], "black")),
    "umbrella in the rain": drawn(
        ("arc", (120, 150, 280, 310), 180, 360, "black"),
        *[("line", [(x, y), (x - 4, y + 14)], "black") for x in range(40, 380, 60) for y in (30, 80)],
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_drawing_stays_as_it_is_to_the_last_bit(name):
    image = CLEAN[name]
    drawing = find_drawing(image)
    np.testing.assert_array_equal(drawing.image.convert("RGB"), image)
    assert drawing.box == image.convert("L").point(lambda level: 255 - level).getbbox()
    assert drawing.ground == 255


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_drawn_in_white_on_black_is_the_same(name):
    if name not in ("rectangle at the border", "window as large as the canvas", "silhouette at the border"):
        inverted = Image.eval(CLEAN[name], lambda level: 255 - level)
        np.testing.assert_array_equal(find_drawing(inverted).image.convert("RGB"), CLEAN[name])


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (100, 100), "white"),
        Image.new("RGB", (100, 60), "black"),
        Image.new("RGB", (1, 1), (90, 160, 30)),
        photographed(light(Image.new("RGB", (480, 640), (240, 240, 236)), 0.6)),
        photographed(on_table(Image.new("RGB", (480, 640), (240, 240, 236)), 3)),
        sent(Image.new("RGBA", (50, 50), (255, 255, 255, 0))),
    ],
    ids=["white", "black", "one pixel", "paper", "paper on a table", "transparent"],
)
def test_blank_canvases_and_paper_are_blank(image):
    assert is_blank(PREPROCESSING.arrange(image))
    assert not is_blank(PREPROCESSING.arrange(canvas()))


def test_photos_of_other_things_stay_photos():
    noise = np.random.default_rng(0).uniform(0, 255, (30, 40, 3)).astype(np.uint8)
    photo = Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)
    assert np.asarray(PREPROCESSING.arrange(photo)).std(axis=2).mean() > 10, "the colours are gone"


def test_the_same_image_gives_the_same_drawing():
    first, second = (PREPROCESSING.arrange(CONDITIONS["aslant on a table"]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
