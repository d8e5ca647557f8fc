"""Three ways to estimate <f, T f> of the hydrogen atom: the cost of an update and the scatter of the estimates.

    python bench/operator_derivatives.py --repetitions 40

by parts    the integral of f^2/r - |grad f|^2, from first derivatives only
direction   the same, from the slope along one random direction, squared and doubled
laplacian   the integral of f (laplacian f + f/r), from second derivatives
"""

from argparse import Namespace

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--repetitions", type=positive, default=40, help="number of updates for each way")
    found.add_argument("--points", type=positive, default=512, help="number of points in a batch")
    return found


def measure(options: Namespace) -> None:
    from measurements.derivatives import compare_derivatives

    compare_derivatives(options.repetitions, options.points)


if __name__ == "__main__":
    run(parser(), measure)
