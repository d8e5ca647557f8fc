"""Memory and processor time of training and evaluating with as many photos as a large data set has.

    python bench/million.py --photos 1000000 --rank 2000

A pairs table with a row for each photo names the files, which need not exist; their features are random vectors about
the centre of their class. What is measured is reading the table; the closed form; some steps of training the heads; mAP
of `--rank` sketches among all photos; the neighbours of all photos; and every figure of `--queries` sketches, with and
without neighbours and truncated in both orders. The peak of the process includes the features, in single precision.
"""

from argparse import Namespace

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--photos", type=positive, default=1_000_000, help="number of photos")
    found.add_argument("--sketches", type=positive, default=100_000, help="number of sketches")
    found.add_argument("--queries", type=positive, default=20, help="number of sketches to evaluate in full")
    found.add_argument("--rank", type=positive, default=200, help="number of sketches to compute mAP@all of")
    found.add_argument("--steps", type=positive, default=100, help="number of steps of training the heads")
    found.add_argument("--classes", type=positive, default=125, help="number of classes")
    found.add_argument("--features", type=positive, default=512, help="number of features")
    found.add_argument("--dim", type=positive, default=512, help="number of embedding coordinates")
    return found


def measure(options: Namespace) -> None:
    from measurements.million import measure_memory

    measure_memory(options)


if __name__ == "__main__":
    run(parser(), measure)
