"""Three ways to estimate <f, T f> of the hydrogen atom: what an update costs and how far its estimates scatter.

    python bench/operator_derivatives.py --repetitions 40

by parts    integral of f^2/r - |grad f|^2, first derivatives only
direction   the same with the slope along one random direction, squared and doubled
laplacian   integral of f (laplacian f + f/r), second derivatives
"""

from argparse import Namespace

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--repetitions", type=positive, default=40, help="updates of each way")
    found.add_argument("--points", type=positive, default=512, help="of a batch")
    return found


def measure(options: Namespace) -> None:
    from measurements.derivatives import compare_derivatives

    compare_derivatives(options.repetitions, options.points)


if __name__ == "__main__":
    run(parser(), measure)
