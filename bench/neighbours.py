"""What it gains that photos take in their neighbours when an index is built, and how the gallery sets their strength.

    python bench/neighbours.py --model training/model/starter --data DATA --split unseen.txt

DATA has a folder photo/ with the gallery and a folder sketch/ with the queries, each with one folder per class. The
galleries are all photos, and at most 10, 5, 3, 2 and 1 of each class, where more and more of the nearest photos show
other things; the figures of small galleries are means over three draws of them. Each row has mAP@all and the share of
sketches whose first result is of their class: without neighbours, with them at full strength, and as an index takes
them in, at the strength that the gallery sets.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, required=True, help="model bundle")
    found.add_argument("--data", type=Path, required=True, help="folder with photo/<class>/ and sketch/<class>/")
    found.add_argument("--split", help="class split, of which the unseen classes are used; default: all classes")
    found.add_argument("--sketches", type=positive, help="largest number of sketches, drawn at random; default: all")
    found.add_argument("--cache", type=Path, help="file (.npz) that keeps the embeddings for the next time")
    return found


def measure(options: Namespace) -> None:
    from measurements.neighbours import compare_neighbours

    compare_neighbours(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "data"))
