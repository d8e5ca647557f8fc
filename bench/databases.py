"""Exact searches in PostgreSQL with pgvector, Qdrant and LanceDB against svdraw's own, on the same vectors.

    python bench/databases.py --embeddings embeddings.npz --dimensions 512 64 16

Fills a gallery with vectors, exports it as parts, and loads these into each database by the code of docs/databases.md.
Every query is searched in svdraw and in each database in turns, --rounds times; it prints what share of the ten results
are the same, and the medians over the queries of the least time and of the mean processor time, server included. svdraw
uses one thread; the databases use what they do by default.

With --embeddings, the vectors are those of photos and sketches, from a file that bench/embeddings.py wrote. Without,
they are random, with a spectrum that decays like 1 / sqrt(mode).
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

DATABASES = ("postgresql", "qdrant", "lancedb")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--embeddings", type=Path, help=".npz file of bench/embeddings.py")
    found.add_argument("--model", type=Path, help="bundle that the gallery is of; the starter model by default")
    found.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    found.add_argument("--count", type=positive, default=60_000, help="number of photos")
    found.add_argument("--dimensions", type=positive, nargs="+", default=[512, 64, 16], help="to search with")
    found.add_argument("--queries", type=positive, default=50)
    found.add_argument("--rounds", type=positive, default=3)
    return found


def measure(options: Namespace) -> None:
    from measurements.databases import compare_databases

    compare_databases(options)


if __name__ == "__main__":
    run(parser(), measure)
