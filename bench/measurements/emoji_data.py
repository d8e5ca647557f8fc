"""A data set of emoji: drawings from one font, colour pictures by other artists."""

import io
import json
import shutil
from collections.abc import Collection
from pathlib import Path

import resvg_py
from PIL import Image

from measurements.command import BenchmarkError

__all__ = ["make_emoji_data"]

_FILL = 0.875  # side of the picture, as a share of the frame


def make_emoji_data(demo: Path, pictures: Path, out: Path, size: int, without: Collection[str]) -> None:
    """Writes ``out/photo`` and ``out/sketch`` for the seen things of the demo that there are pictures of."""
    try:
        seen = json.loads((demo / "split.json").read_text())["seen"]
    except (OSError, ValueError, KeyError) as error:
        raise BenchmarkError(f"{demo} is not what svdraw demo-data makes: {error}") from error
    kept = 0
    for name in seen:
        words, _, point = name.rpartition("-")
        picture = pictures / f"{point}.svg"
        if not picture.is_file() or set(words.split("-")) & set(without):
            continue
        kept += 1
        photo = out / "photo" / f"emoji_{name}"
        photo.mkdir(parents=True, exist_ok=True)
        _draw(picture, size).save(photo / f"{point}.png")
        shutil.copytree(demo / "sketch" / name, out / "sketch" / photo.name, dirs_exist_ok=True)
    print(f"{kept} of {len(seen)} things")


def _draw(picture: Path, size: int) -> Image.Image:
    side = round(_FILL * size)
    drawn = resvg_py.svg_to_bytes(svg_string=picture.read_text(encoding="utf-8"), width=side, background="white")
    framed = Image.new("RGB", (size, size), "white")
    with Image.open(io.BytesIO(bytes(drawn))) as image:
        framed.paste(image.convert("RGB"), ((size - image.width) // 2, (size - image.height) // 2))
    return framed
