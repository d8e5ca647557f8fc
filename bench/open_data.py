"""Makes a data set whose licences allow sharing what is trained on it: photos under CC BY, and drawings of their kinds.

    python bench/open_data.py --strokes QUICKDRAW --photos CCBY --credits CCBY.csv --out OPEN

CCBY.csv has a row for each photo: ``file``, ``imagenet_class`` and, where "Quick, Draw!" has drawings of its kind,
``quickdraw_class``. Photos of other kinds are paired with line drawings computed from them. The starter-open model is
trained on this data (docs/starter.md).
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--strokes", type=Path, required=True, help="folder of <class>.ndjson files with strokes")
    found.add_argument("--photos", type=Path, required=True, help="folder of the photos")
    found.add_argument("--credits", type=Path, required=True, help="CSV file with a row for each photo")
    found.add_argument("--out", type=Path, required=True, help="folder of the data set to create")
    found.add_argument("--limit", type=positive, default=25, help="number of drawings per class")
    return found


def measure(options: Namespace) -> None:
    from measurements.open_data import make_open_data

    make_open_data(options.strokes, options.photos, options.credits, options.out, options.limit)


if __name__ == "__main__":
    run(parser(), measure, folders=("strokes", "photos"))
