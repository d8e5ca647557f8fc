"""Throughput of an indexing job, compared with that of the encoder alone, with some damaged pictures.

    python bench/indexing.py --model MODEL --count 800
    python bench/indexing.py --model MODEL --photos PHOTOS

Without --model, an untrained network of a few layers at 64 px is used, which shows the largest cost of reading,
decoding and storing relative to encoding. The encoder alone embeds one preprocessed batch of 32 again and again for the
same number of pictures, before and after the job. The pictures are those below --photos, or JPEG files of smooth random
colours, of which a share (--broken) is cut in half; the job must list exactly these. The time of the job does not
include publishing, which bench/capacity.py measures.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run, share


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, help="model bundle, such as training/model/starter")
    found.add_argument("--photos", type=Path, help="folder of pictures; generated when omitted")
    found.add_argument("--count", type=positive, default=2000, help="number of pictures to generate")
    found.add_argument("--pixels", type=positive, default=512, help="width of the generated pictures")
    found.add_argument("--broken", type=share, default=0.01, help="share of the generated pictures that is cut in half")
    found.add_argument("--device", default="auto")
    return found


def measure(options: Namespace) -> None:
    from measurements.indexing import measure_indexing

    measure_indexing(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "photos"))
