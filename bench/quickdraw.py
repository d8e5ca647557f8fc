"""Other people's drawings for the photos of a data set: Google's "Quick, Draw!" strokes, class by class.

    python bench/quickdraw.py --strokes FOLDER --photos SKETCHY/photo --out DATA --limit 25

Renders every FOLDER/<class>.ndjson whose class has a folder of photos, as `fit` and `evaluate` read them, and links
the photos. The drawings are licensed under CC BY 4.0 by Google.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--strokes", type=Path, required=True, help="folder of <class>.ndjson files")
    found.add_argument("--photos", type=Path, required=True, help="folder of class folders")
    found.add_argument("--out", type=Path, required=True, help="folder of a data set, made or added to")
    found.add_argument("--limit", type=positive, default=100, help="drawings a class")
    return found


def measure(options: Namespace) -> None:
    from measurements.strokes import render_classes

    render_classes(options.strokes, options.photos, options.out, options.limit)


if __name__ == "__main__":
    run(parser(), measure, folders=("strokes", "photos"))
