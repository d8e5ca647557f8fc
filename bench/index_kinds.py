"""Compares every kind of index with FAISS's own indexes, usearch and hnswlib, on the same vectors and threads.

    python bench/index_kinds.py --embeddings embeddings.npz --counts 25000 120000 --dim 512 --kinds flat exact codes
    python bench/index_kinds.py --embeddings embeddings.npz --copies 0.05 --counts 500000 --json figures.json

With --embeddings, the vectors are those of photos and parts of photos, and the queries are real sketches, from a file
that bench/embeddings.py wrote. All are in the order of coordinates that a gallery of these photos has. --copies takes
the whole photos only, and adds noise of so many standard deviations to copies of them, until there are enough. Such
near copies are much easier to search than photos of a gallery. --dim cuts vectors and queries to their leading
coordinates. Without --embeddings, vectors and queries are random, with a spectrum that decays like 1 / sqrt(mode).

Approximate indexes are set to the smallest effort that finds 99% of the true 10 best results of these queries. --json
keeps earlier figures of other counts and kinds for the table and --plot. Times are the smallest of five rounds. Memory
is the increase of the process's memory when the index is loaded from disk. Compare figures within one run only.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

KINDS = ("flat", "exact", "codes", "disk", "pq", "sq8", "rabitq", "ivf", "hnsw", "usearch", "hnswlib")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--embeddings", type=Path, help=".npz file of bench/embeddings.py")
    found.add_argument("--copies", type=float, help="noise, in standard deviations; near copies instead of all photos")
    found.add_argument("--counts", type=positive, nargs="+", default=[100_000], help="numbers of vectors")
    found.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of index to compare")
    found.add_argument("--dimensions", type=positive, nargs="+", default=[256, 128, 64, 32, 16], help="to search with")
    found.add_argument("--dim", type=positive, default=256, help="number of coordinates of the vectors")
    found.add_argument("--queries", type=positive, default=100)
    found.add_argument("--threads", type=positive, default=1)
    found.add_argument("--json", type=Path, help="JSON file of figures to update")
    found.add_argument("--plot", type=Path, help="image file to draw a plot to")
    return found


def measure(options: Namespace) -> None:
    from measurements.kinds import compare_kinds

    compare_kinds(options)


if __name__ == "__main__":
    run(parser(), measure)
