"""Every kind of index against FAISS's flat index, usearch and hnswlib, on the same vectors and threads in one run.

    python bench/index_kinds.py --counts 25000 100000 --kinds flat exact ivf
    python bench/index_kinds.py --gallery GALLERY --sketches DIR --counts 500000 --json figures.json --plot growth.png

With --gallery, its real embeddings are scaled up by resampling with a little noise (--noise, in standard deviations),
and the images below --sketches, embedded by the gallery's sketch encoder, are the queries; --dim cuts both to their
leading coordinates. Without, vectors and queries are random with a spectrum that decays like 1 / sqrt(mode).
Approximate indexes are set to the least effort that finds 99% of the true 10 best of these very queries; `ivf flat` is
FAISS's own, with the lists of `ivf`. --json keeps what it has of other counts and kinds, for the table and --plot.
Memory is what loading the index from disk adds to the process. Ratios hold within a run only.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

KINDS = ("flat", "exact", "ivf", "ivf flat", "sq8", "fp16", "hnsw", "usearch", "hnswlib")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, help="gallery whose vectors are scaled up")
    found.add_argument("--sketches", type=Path, help="folder of sketches, the queries")
    found.add_argument("--counts", type=positive, nargs="+", default=[100_000], help="numbers of vectors")
    found.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what to compare")
    found.add_argument("--dimensions", type=positive, nargs="+", default=[256, 128, 64, 32, 16], help="to search by")
    found.add_argument("--dim", type=positive, default=256, help="coordinates of the vectors")
    found.add_argument("--noise", type=float, default=0.05, help="of the vectors made from a gallery's")
    found.add_argument("--queries", type=positive, default=100)
    found.add_argument("--threads", type=positive, default=1)
    found.add_argument("--json", type=Path, help="file of figures, brought up to date")
    found.add_argument("--plot", type=Path, help="picture to draw")
    return found


def measure(options: Namespace) -> None:
    from measurements.kinds import compare_kinds

    compare_kinds(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
