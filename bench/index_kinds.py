"""Compares every kind of index with FAISS's flat index, usearch and hnswlib, on the same vectors and threads.

    python bench/index_kinds.py --counts 25000 100000 --kinds flat exact ivf
    python bench/index_kinds.py --gallery GALLERY --sketches DIR --counts 500000 --json figures.json --plot growth.png

With --gallery, the vectors are those of the gallery, resampled with a little noise (--noise, in standard deviations) to
the number wanted. The queries are the images below --sketches, embedded by the gallery's sketch encoder. --dim cuts
both to their leading coordinates. Without --gallery, vectors and queries are random, with a spectrum that decays like
1 / sqrt(mode).

Approximate indexes are set to the smallest effort that finds 99% of the true 10 best results of these queries.
`ivf flat` is FAISS's own index with the inverted lists of `ivf`. --json keeps earlier figures of other counts and kinds
for the table and --plot. Memory is the increase of the process's memory when the index is loaded from disk. Compare
figures within one run only.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

KINDS = ("flat", "exact", "ivf", "ivf flat", "sq8", "fp16", "hnsw", "usearch", "hnswlib")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, help="gallery whose vectors are resampled")
    found.add_argument("--sketches", type=Path, help="folder of sketches that are used as queries")
    found.add_argument("--counts", type=positive, nargs="+", default=[100_000], help="numbers of vectors")
    found.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of index to compare")
    found.add_argument("--dimensions", type=positive, nargs="+", default=[256, 128, 64, 32, 16], help="to search with")
    found.add_argument("--dim", type=positive, default=256, help="number of coordinates of the vectors")
    found.add_argument("--noise", type=float, default=0.05, help="noise, in standard deviations")
    found.add_argument("--queries", type=positive, default=100)
    found.add_argument("--threads", type=positive, default=1)
    found.add_argument("--json", type=Path, help="JSON file of figures to update")
    found.add_argument("--plot", type=Path, help="image file to draw a plot to")
    return found


def measure(options: Namespace) -> None:
    from measurements.kinds import compare_kinds

    compare_kinds(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
