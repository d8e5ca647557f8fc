"""Memory, disk and time that a gallery of many photos needs, by kind of index and number of dimensions.

    python bench/capacity.py --counts 200000 --dims 256 512 --kinds exact codes disk

Fills a catalogue with random vectors whose spectrum decays like 1 / sqrt(mode), publishes a generation of every kind
of index, and loads each one in a fresh process. The output is Markdown: sizes, memory and times of building, scaled in
proportion to a million photos; searches, changes and switches to other generations as they were measured. Random
vectors have no clusters, so kinds of index that use clusters do better on photos, which bench/index_kinds.py measures.
The time of embedding photos is not included; bench/indexing.py measures it.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

KINDS = ("exact", "codes", "disk")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--counts", type=positive, nargs="+", default=[200_000], help="numbers of photos")
    found.add_argument("--dims", type=positive, nargs="+", default=[256, 512], help="dimensions of the vectors")
    found.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    found.add_argument("--queries", type=positive, default=100, help="number of searches, and of changes")
    found.add_argument("--threads", type=positive, default=1, help="number of threads of a search")
    found.add_argument("--scratch", type=Path, help="folder on the disk to measure; temporary by default")
    return found


def measure(options: Namespace) -> None:
    from measurements.capacity import measure_capacity

    measure_capacity(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("scratch",))
