"""Size and speed of a catalogue of many photos: filters, changes, reading in order, and searches beside slow filters.

    python bench/catalogue.py --counts 1000000 --dims 256

Fills catalogues with random vectors and four fields of metadata: one photo in two is from the shop "north", a year is
one of 100, a price is one of 100,000, and every photo has two tags out of ten. Filters are asked twice: of fields as
they are, and of fields that are filterable. Colour always is; every photo has three of twelve. The output is Markdown.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--counts", type=positive, nargs="+", default=[200_000], help="numbers of photos")
    found.add_argument("--dims", type=positive, nargs="+", default=[256], help="dimensions of the vectors")
    found.add_argument("--lookups", type=positive, default=10, help="number of lookups beside a slow filter")
    found.add_argument("--scratch", type=Path, help="folder on the disk to measure; temporary by default")
    return found


def measure(options: Namespace) -> None:
    from measurements.catalogue import measure_catalogues

    measure_catalogues(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("scratch",))
