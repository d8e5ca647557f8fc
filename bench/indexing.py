"""Throughput of an indexing job against the bare encoder's, on the same threads, with some of the pictures broken.

    python bench/indexing.py --model MODEL --count 800
    python bench/indexing.py --model MODEL --photos PHOTOS

Without --model, an untrained network of a few layers at 64 px stands in, which shows what reading, decoding and storing
cost at most. The bare encoder embeds one preprocessed batch of 32 over and over for as many pictures, before and after
the job. Pictures are those below --photos, or else JPEG files of smooth random colours; of these some are cut in half
(--broken), and the job must list exactly those. The job's time is without publishing, which bench/capacity.py measures.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run, share


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, help="bundle, such as training/model/starter")
    found.add_argument("--photos", type=Path, help="folder of pictures; made up when omitted")
    found.add_argument("--count", type=positive, default=2000, help="pictures to make up")
    found.add_argument("--pixels", type=positive, default=512, help="width of the pictures that are made up")
    found.add_argument("--broken", type=share, default=0.01, help="share of them that is cut in half")
    found.add_argument("--device", default="auto")
    return found


def measure(options: Namespace) -> None:
    from measurements.indexing import measure_indexing

    measure_indexing(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "photos"))
