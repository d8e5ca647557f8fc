"""What it gains to search a second time by what was found, and what it costs in exact matches.

    python bench/expansion.py --model RUN --data DATA --split sketchy-1

The sketches of unseen classes search their photos, which have taken in their neighbours. The query of the second search
is the sketch and, with some weight, the mean of the first ten photos about that of the gallery; see
docs/method.md. The columns are mAP@all and the share of sketches whose own photo is first, or among the first ten.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, required=True, help="model bundle")
    found.add_argument("--data", type=Path, required=True, help="folder with photo/<class>/ and sketch/<class>/")
    found.add_argument("--split", help="class split; default: the model's own")
    found.add_argument("--weights", type=float, nargs="+", default=[0, 0.25, 0.5, 1], help="weights of the photos")
    found.add_argument("--cache", type=Path, help="folder of cached features")
    return found


def measure(options: Namespace) -> None:
    from measurements.expansion import compare_expansions

    compare_expansions(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "data"))
