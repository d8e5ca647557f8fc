"""Pictures with a subject of a known colour, photos of things whose colour people expect, and what is named in them."""

import io
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from index.gallery.palette import PALETTE, color_names, color_shares
from training.model.images import image_files, open_image

__all__ = ["measure_colours"]

TONES = {
    "black": "101010 1c1e24",
    "white": "f4f4f2 ffffff",
    "gray": "6e7074 909294",
    "red": "c01820 9a1420 e03028",
    "orange": "e8801e f09030 dc6414",
    "yellow": "f0d028 e0c030 f8e860",
    "green": "3c8c32 64a83c 286428",
    "teal": "1ea0a0 46b8aa 147878",
    "blue": "1e50b4 3c78c8 142d78",
    "purple": "6e2896 8c50b4 5a1e78",
    "pink": "f08cb4 e6649b f5aac3",
    "brown": "7b4a21 64401e 8c6440",
}
GROUNDS = {"gray": "76787a 8c9094", "green": "50783c 6e8c46", "blue": "6ea0dc a0c8f0", "brown": "8c6e50 785a3c"}
AREAS = (0.05, 0.1, 0.15, 0.25)  # of the picture that the subject takes up
PLACES = {"middle": (0.5, 0.5), "side": (0.3, 0.62)}
SIZE = (320, 240)
EXPECTED = {
    "strawberry": "red",
    "jack-o-lantern": "orange",
    "banana": "yellow",
    "tree": "green",
    "frog": "green",
    "shark": "blue",
    "penguin": "black",
    "elephant": "gray",
    "camel": "brown",
    "violin": "brown",
}
ROUNDS = 300  # of the timing
SHOWN, SIDE = 16, 96  # photos of each colour on the sheet, and their pixels


def measure_colours(options: Namespace) -> None:
    """Measures rendered pictures and, if there are any, photos, and prints tables."""
    _measure_rendered(options.pictures)
    if options.photos:
        named = {file: _named(file.read_bytes()) for file in image_files(options.photos)}
        _print_photos(named)
        if options.sheet:
            _draw_sheet(named, options.sheet)
    image = Image.effect_noise((600, 450), 80).convert("RGB")
    started = time.process_time()
    for _ in range(ROUNDS):
        color_shares(image)
    print(f"\nMeasuring a photo takes {1000 * (time.process_time() - started) / ROUNDS:.3f} ms of processor time.")


def _named(content: bytes) -> list[str]:
    return color_names(color_shares(open_image(content, draft=224))) or []


def _measure_rendered(pictures: int) -> None:
    random = np.random.default_rng(0)
    print(f"| subject | {' | '.join(f'{area:.0%}, {place}' for area in AREAS for place in PLACES)} | another named |")
    print(f"|{' --- |' * (len(AREAS) * len(PLACES) + 2)}")
    for name in PALETTE:
        row, wrong, count = [], 0, 0
        for area in AREAS:
            for place in PLACES.values():
                found = [_rendered_names(name, area, place, random) for _ in range(pictures)]
                row.append(f"{sum(name in names for _, names in found) / pictures:.2f}")
                wrong += sum(bool(set(names) - {name, ground}) for ground, names in found)
                count += pictures
        print(f"| {name} | {' | '.join(row)} | {wrong / count:.3f} |", flush=True)


def _rendered_names(
    name: str, area: float, place: tuple[float, float], random: np.random.Generator
) -> tuple[str, list[str]]:
    """A ground that does not have the subject's colour, and the names found in a picture on it."""
    ground = random.choice([each for each in GROUNDS if each != name])
    buffer = io.BytesIO()
    _rendered(random.choice(TONES[name].split()), GROUNDS[ground].split(), area, place, random).save(buffer, "JPEG")
    return str(ground), _named(buffer.getvalue())


def _rendered(
    tone: str, ground: Sequence[str], area: float, place: tuple[float, float], random: np.random.Generator
) -> Image.Image:
    """An ellipse that is darker towards its lower right, on a ground that goes from one tone to another."""
    width, height = SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    top, bottom = (_rgb(each) for each in ground)
    picture = top + (bottom - top) * (y / height)[..., None]
    ratio = random.uniform(0.6, 1.6)
    radius = np.sqrt(area * width * height / np.pi)
    across, down = (x - place[0] * width) / (radius * ratio**0.5), (y - place[1] * height) * ratio**0.5 / radius
    light = np.clip(1 - 0.18 * (across + down), 0.6, 1.15)[..., None]
    picture = np.where((across**2 + down**2 <= 1)[..., None], _rgb(tone) * light, picture)
    picture += random.normal(0, 8, picture.shape)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _rgb(tone: str) -> np.ndarray:
    return np.array(list(bytes.fromhex(tone)), float)


def _print_photos(named: dict[Path, list[str]]) -> None:
    print("\n| photos | expected | have it | of the other classes | mean number of names |")
    print("| --- | --- | --- | --- | --- |")
    for kind, colour in EXPECTED.items():
        own = [names for file, names in named.items() if file.parent.name == kind]
        other = [names for file, names in named.items() if EXPECTED.get(file.parent.name) != colour]
        if own and other:
            mean = np.mean([len(names) for names in own])
            print(f"| {kind} | {colour} | {_share(own, colour):.2f} | {_share(other, colour):.2f} | {mean:.1f} |")
    everything = list(named.values())
    print("\n| " + " | ".join(PALETTE) + " |\n|" + " --- |" * len(PALETTE))
    print("| " + " | ".join(f"{_share(everything, name):.2f}" for name in PALETTE) + " |")


def _share(found: Iterable[list[str]], colour: str) -> float:
    return float(np.mean([colour in names for names in found]))


def _draw_sheet(named: dict[Path, list[str]], out: Path) -> None:
    """A row of photos for each colour, drawn at random among those that have it."""
    random = np.random.default_rng(0)
    sheet = Image.new("RGB", (SIDE * SHOWN, SIDE * len(PALETTE)), "white")
    for row, name in enumerate(PALETTE):
        having = [file for file, names in named.items() if name in names]
        for column, number in enumerate(random.permutation(len(having))[:SHOWN]):
            photo = open_image(having[number], draft=SIDE)
            photo.thumbnail((SIDE, SIDE))
            sheet.paste(photo, (SIDE * column, SIDE * row))
    sheet.save(out)
