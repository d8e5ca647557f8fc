"""Drawings and colour pictures of emoji as a data set: the demo's drawings, with pictures by other artists.

    npm pack @twemoji/svg && tar xzf twemoji-svg-*.tgz
    svdraw demo-data --out DEMO
    python bench/emoji_data.py --demo DEMO --svg package --out EMOJI

The pictures are Twemoji's, under CC BY 4.0. Only things that the demo trains on become classes, so that those it is
measured on stay unseen. Names of classes begin with ``emoji_``: a data set of photos that EMOJI joins may have classes
of the same things.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--demo", type=Path, required=True, help="folder that svdraw demo-data has made")
    found.add_argument("--svg", type=Path, required=True, help="folder of pictures named by their code points")
    found.add_argument("--size", type=positive, default=256, help="side of the pictures, in pixels")
    found.add_argument("--without", nargs="*", default=[], help="words; things with one in their names are left out")
    found.add_argument("--out", type=Path, required=True, help="folder to write photo/ and sketch/ to")
    return found


def measure(options: Namespace) -> None:
    from measurements.emoji_data import make_emoji_data

    make_emoji_data(options.demo, options.svg, options.out, options.size, options.without)


if __name__ == "__main__":
    run(parser(), measure, folders=("demo", "svg"))
