"""Renders drawings of "Quick, Draw!" as pictures."""

import json
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from measurements.command import BenchmarkError

__all__ = ["render_classes"]

SIDE = 256  # pixels; coordinates of strokes are 0 to 255
SCALE = 2  # drawings are rendered larger and then reduced, for smooth strokes
MARGIN = 12
WIDTH = 4


def render_classes(strokes: Path, photos: Path, out: Path, limit: int) -> None:
    """Writes ``out/sketch`` and links ``out/photo``, for the classes that both folders have."""
    files = {file.stem.replace(" ", "_"): file for file in strokes.glob("*.ndjson")}
    classes = sorted(files.keys() & {folder.name for folder in photos.iterdir()})
    if not classes:
        raise BenchmarkError(f"no class of {strokes} has photos in {photos}")
    (out / "photo").mkdir(parents=True, exist_ok=True)
    for name in tqdm(classes, unit="class"):
        folder = out / "sketch" / name
        folder.mkdir(parents=True, exist_ok=True)
        with files[name].open() as lines:
            for number, line in zip(range(limit), lines, strict=False):
                _render(json.loads(line)["drawing"]).save(folder / f"drawing{number}.png")
        link = out / "photo" / name
        if not link.exists():
            link.symlink_to((photos / name).resolve())
    print(f"{len(classes)} classes in {out}")


def _render(drawing: list[list[list[int]]]) -> Image.Image:
    """Draws simplified strokes, ``[[xs, ys], ...]``, dark on white in the middle of a square."""
    xs, ys = ([value for stroke in drawing for value in stroke[axis]] for axis in (0, 1))
    left, top = ((SIDE - (max(values) - min(values))) / 2 - min(values) for values in (xs, ys))
    shrink = (SIDE - 2 * MARGIN) / SIDE
    image = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 255)
    pen = ImageDraw.Draw(image)
    for stroke in drawing:
        points = [
            ((MARGIN + (x + left) * shrink) * SCALE, (MARGIN + (y + top) * shrink) * SCALE)
            for x, y in zip(stroke[0], stroke[1], strict=True)
        ]
        pen.line(points, fill=0, width=WIDTH * SCALE, joint="curve")
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
