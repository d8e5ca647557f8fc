"""Memory and processor time of the closed form and of an evaluation with as many photos as a large data set has.

    python bench/million.py --photos 1000000

Features are random vectors about the centre of their class. What is measured is the moments and the solution of the
closed form, then an evaluation of a few sketches among all photos, without neighbours. The peak of the process includes
the features themselves, which are held in single precision.
"""

from argparse import Namespace

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--photos", type=positive, default=1_000_000, help="number of photos")
    found.add_argument("--sketches", type=positive, default=100_000, help="number of sketches to train on")
    found.add_argument("--queries", type=positive, default=20, help="number of sketches to evaluate")
    found.add_argument("--classes", type=positive, default=125, help="number of classes")
    found.add_argument("--features", type=positive, default=512, help="number of features")
    return found


def measure(options: Namespace) -> None:
    from measurements.million import measure_memory

    measure_memory(options)


if __name__ == "__main__":
    run(parser(), measure)
