"""Drawings as people send them: how often each still finds its own photo, compared with the clean drawing.

    python bench/inks.py --data .demo/data --model .demo/model
    python bench/inks.py --data DATA --conditions "lined paper" "dark table" --limit 200

Draws --limit drawings from DATA/sketch/<class>/, of different classes where there are as many, and renders each under
every condition: specks, frames, transparency, pencils, light and shadow, kinds of paper, tables and cameras. The table
shows the share of drawings for which a photo of their own class comes first among all photos of DATA/photo.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder with sketch/<class>/ and photo/<class>/")
    found.add_argument("--model", type=Path, help="model bundle; the starter model by default")
    found.add_argument("--limit", type=positive, default=150, help="number of drawings")
    found.add_argument("--seed", type=int, default=0, help="chooses the drawings and how they are rendered")
    found.add_argument("--conditions", nargs="+", metavar="NAME", help="all by default")
    return found


def measure(options: Namespace) -> None:
    from measurements.inks_report import measure_conditions

    measure_conditions(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("data", "model"))
