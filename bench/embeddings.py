"""Embeds photos, random parts of photos, and sketches once, for comparisons of kinds of index.

    python bench/embeddings.py --photos SKETCHY/photo OTHERS --sketches SKETCHY/sketch --parts 29 --out embeddings.npz

Parts are rectangles of 6% to 60% of a photo, as different from each other as photos of a gallery are. A few thousand
photos stand for more than a hundred thousand in this way. Each photo is followed by its parts.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, help="model bundle; the starter model when omitted")
    found.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of photos")
    found.add_argument("--sketches", type=Path, required=True, help="folder of sketches")
    found.add_argument("--parts", type=positive, default=29, help="number of parts of each photo")
    found.add_argument("--out", type=Path, required=True, help=".npz file to write")
    return found


def measure(options: Namespace) -> None:
    from measurements.embeddings import embed

    embed(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "sketches"))
