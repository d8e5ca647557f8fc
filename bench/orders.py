"""Compares orders of coordinates: mAP@all of truncated searches in one gallery.

    python bench/orders.py --model training/model/starter --data DATA

DATA has a folder photo/ with the gallery and a folder sketch/ with the queries, each with one folder per class. All
photos are the gallery, those of classes without sketches too. The rows are

    the model's       the order that training gave
    photos alone      the eigenvectors of the photos' second moment
    (S, B)            the order of an index that knows no sketches yet
    learned           (A, B), A from other sketches: those of four fifths of the sketches, the others being the queries
    learned, others   the same, with the fifths made of whole classes: no sketch of the queries' classes is known
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, required=True, help="model bundle")
    found.add_argument("--data", type=Path, required=True, help="folder with photo/<class>/ and sketch/<class>/")
    found.add_argument("--sketches", type=positive, help="largest number of sketches, drawn at random; default: all")
    found.add_argument("--cache", type=Path, help="file (.npz) that keeps the embeddings for the next time")
    return found


def measure(options: Namespace) -> None:
    from measurements.orders import compare_orders

    compare_orders(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "data"))
