"""Makes a data set of other people's drawings for given photos: Google's "Quick, Draw!" strokes, class by class.

    python bench/quickdraw.py --strokes FOLDER --photos SKETCHY/photo --out DATA --limit 25

Renders every FOLDER/<class>.ndjson whose class has a folder of photos, in the layout that `fit` and `evaluate` read,
and links the photos. The drawings are licensed by Google under CC BY 4.0.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--strokes", type=Path, required=True, help="folder of <class>.ndjson files with strokes")
    found.add_argument("--photos", type=Path, required=True, help="folder with one folder of photos per class")
    found.add_argument("--out", type=Path, required=True, help="folder of the data set to create or extend")
    found.add_argument("--limit", type=positive, default=100, help="number of drawings per class")
    return found


def measure(options: Namespace) -> None:
    from measurements.strokes import render_classes

    render_classes(options.strokes, options.photos, options.out, options.limit)


if __name__ == "__main__":
    run(parser(), measure, folders=("strokes", "photos"))
