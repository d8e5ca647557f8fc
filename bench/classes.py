"""How much unseen classes gain when more is seen: mAP by number of classes and of pictures, by the closed form.

    python bench/classes.py --data SKETCHY --counts 20 40 60 80
    python bench/classes.py --data SKETCHY --counts 80 --wider DATA
    python bench/classes.py --data SKETCHY --counts 80 --pictures 3 6 12 25

Everything is measured on classes held out from the seen classes of the split; the unseen ones are never opened. Each
draw holds out a fifth of the seen classes and trains on the first so many of the others, on frozen features. With
--pictures, it also trains on so many photos and so many sketches of each class, drawn at random. With --wider, all
classes of another data set join the largest number, except those that the first data set has under any name
(measurements/synonyms.py); bench/quickdraw.py makes such a data set.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder with sketch/ and photo/")
    found.add_argument("--split", default="sketchy-1", help="class split: a name or a file")
    found.add_argument("--counts", type=positive, nargs="+", default=[20, 40, 60, 80], help="numbers of classes")
    found.add_argument(
        "--pictures", type=positive, nargs="+", default=[], help="numbers of photos and sketches a class"
    )
    found.add_argument("--wider", type=Path, help="folder with sketch/ and photo/ of further classes")
    found.add_argument("--draws", type=positive, default=3, help="number of draws of held-out classes")
    found.add_argument("--ridge", type=float, default=4.0, help="ridge of the closed form")
    found.add_argument("--image-size", type=positive, default=224, help="side of the encoders' input, in pixels")
    found.add_argument("--pooling", default="mean", choices=["mean", "mean-max"], help="of the backbone's stages")
    found.add_argument("--cache", type=Path, help="folder of cached features; by default the user's cache")
    return found


def measure(options: Namespace) -> None:
    from measurements.classes import measure_classes

    measure_classes(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("data", "wider"))
