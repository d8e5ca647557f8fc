"""How often photos are given the colour of their subject, and how long that takes.

    python bench/colours.py --photos SKETCHY/photo

Pictures are rendered whose subject is known: blobs of twelve colours in several tones, with light and shadow and noise,
on four backgrounds, in the middle and at a side, which take up a share of the picture. Photos, one folder a class, are
looked at where a class has a colour that people expect of it. The output is Markdown; --sheet shows what was found.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--photos", type=Path, help="folder with a folder of photos a class")
    found.add_argument("--pictures", type=positive, default=40, help="rendered pictures of each colour, area and place")
    found.add_argument("--sheet", type=Path, help="PNG to write: photos that have each colour")
    return found


def measure(options: Namespace) -> None:
    from measurements.colours import measure_colours

    measure_colours(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("photos",))
