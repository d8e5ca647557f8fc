"""How far relevance can be trusted: calibration error and reliability diagram on classes that a model has not seen.

    python bench/calibration.py --model RUN --data DATA --plot calibration.png

The model must have a calibration, as `svdraw fit` and `svdraw calibrate` make it. The sketches of the classes that the
model's own split held out search all photos, the photos of these classes alone, and a quarter of each; once as they
are, and once without the photos that are relevant.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, required=True, help="folder of the model bundle")
    found.add_argument("--data", type=Path, required=True, help="folder with sketch/ and photo/")
    found.add_argument("--split", help="class split; by default the classes that the model's own split held out")
    found.add_argument("--plot", type=Path, help="PNG file to draw the reliability diagram into")
    found.add_argument("--cache", type=Path, help="folder of cached features; by default the user's cache")
    return found


def measure(options: Namespace) -> None:
    from measurements.calibration import measure_calibration

    measure_calibration(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("data", "model"))
