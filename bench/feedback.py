"""What marking results as more or less like what is sought gains, on classes that the model has not seen.

    python bench/feedback.py --data DATA --split unseen.txt --model training/model/starter

Every sketch of the unseen classes searches the photos of all classes. A simulated user looks at the first ten results
and marks the first one of the right class as positive and the first one of another class as negative, once and then
again. Photos that were marked in any round are left out of all rankings of that sketch, so that the rounds are compared
on the same photos.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder with sketch/ and photo/")
    found.add_argument("--model", type=Path, required=True, help="folder of the model bundle")
    found.add_argument("--split", required=True, help="class split: a name, or a file that lists the unseen classes")
    found.add_argument("--cache", type=Path, help="folder of cached features; by default the user's cache")
    return found


def measure(options: Namespace) -> None:
    from measurements.feedback import measure_feedback

    measure_feedback(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("data", "model"))
