"""Retrieval quality of all methods on the same data, splits and seeds, by the zero-shot protocol.

    python bench/retrieval.py --data SKETCHY --out RUNS
    python bench/retrieval.py --data SKETCHY --out RUNS --splits sketchy-1 --seeds 0 --methods "closed form" "ours"

Trains each method on the seen classes and measures it on the unseen classes. Every run is a folder below --out.
Finished runs are not repeated and interrupted ones are continued, so methods and seeds can be added later. At the end,
table.md and the plots are written to --out. Columns named "instance" count exact matches: only the photo that a sketch
depicts is relevant.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, run
from measurements.methods import EVERY, METHODS


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder with sketch/ and photo/")
    found.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    found.add_argument("--cache", type=Path, help="folder of cached features; by default the user's cache")
    found.add_argument("--splits", nargs="+", default=["sketchy-1", "sketchy-2"], help="class splits: names or files")
    found.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    found.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(EVERY), metavar="METHOD", help="; ".join(EVERY)
    )
    return found


def measure(options: Namespace) -> None:
    from measurements.retrieval import measure_methods

    measure_methods(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("data",))
