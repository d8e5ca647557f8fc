"""Other people's drawings for the photos of a data set: Google's "Quick, Draw!" strokes, class by class.

    python bench/quickdraw.py --strokes FOLDER --photos SKETCHY/photo --out DATA
    python -m training evaluate --model RUN --data DATA --split unseen.txt

Renders every FOLDER/<class>.ndjson whose class has a folder of photos, as `fit` and `evaluate` read them, and links
the photos. The drawings are licensed under CC BY 4.0 by Google.
"""

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

SIDE = 256  # pixels; strokes use 0 to 255
SCALE = 2  # drawn larger and reduced, for smooth strokes
MARGIN = 12
WIDTH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=Path, required=True, help="folder of <class>.ndjson files")
    parser.add_argument("--photos", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100, help="drawings a class")
    arguments = parser.parse_args()
    strokes = {file.stem.replace(" ", "_"): file for file in arguments.strokes.glob("*.ndjson")}
    classes = sorted(strokes.keys() & {folder.name for folder in arguments.photos.iterdir()})
    if not classes:
        parser.error(f"no class of {arguments.strokes} has photos in {arguments.photos}")
    (arguments.out / "photo").mkdir(parents=True, exist_ok=True)
    for name in tqdm(classes, unit="class"):
        folder = arguments.out / "sketch" / name
        folder.mkdir(parents=True, exist_ok=True)
        with strokes[name].open() as lines:
            for number, line in zip(range(arguments.limit), lines, strict=False):
                render(json.loads(line)["drawing"]).save(folder / f"drawing{number}.png")
        photos = arguments.out / "photo" / name
        if not photos.exists():
            photos.symlink_to((arguments.photos / name).resolve())
    print(f"{len(classes)} classes in {arguments.out}")


def render(drawing: list[list[list[int]]]) -> Image.Image:
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


if __name__ == "__main__":
    main()
