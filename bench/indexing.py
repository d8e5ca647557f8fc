"""Throughput and processor time of indexing jobs, compared with other ways to embed the same pictures.

    python bench/indexing.py --model MODEL --count 800
    python bench/indexing.py --model MODEL --photos PHOTOS --rival --rounds 2
    python bench/indexing.py --model MODEL --photos PHOTOS --megapixels 12 --count 100
    python bench/indexing.py --model MODEL --photos PHOTOS --against OTHER_SOURCES --rounds 3

Without --model, an untrained network of a few layers at 64 px is used, which shows the largest cost of reading,
decoding and storing relative to encoding. The pictures are those below --photos, the first --count of them enlarged
(--megapixels), or JPEG files of smooth random colours, of which a share (--broken) is cut in half; the job must list
exactly these. --against is a folder with the sources of another version, whose jobs run in turn with this version's.
--rival embeds with PyTorch's DataLoader, a worker process a core, in batches of 32, and writes nothing. Images/s do not
include loading the model and publishing; processor time does, and says how much of it each stage takes. Each job runs
in a process of its own. What begins it, the import of packages, is not counted.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run, share


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--model", type=Path, help="model bundle, such as training/model/starter")
    found.add_argument("--photos", type=Path, help="folder of pictures; generated when omitted")
    found.add_argument("--count", type=positive, default=2000, help="number of pictures to generate or enlarge")
    found.add_argument("--pixels", type=positive, default=512, help="width of the generated pictures")
    found.add_argument("--megapixels", type=positive, help="enlarge the photos to so many million pixels")
    found.add_argument("--broken", type=share, default=0.01, help="share of the generated pictures that is cut in half")
    found.add_argument("--against", type=Path, help="folder with the sources of another version")
    found.add_argument("--rival", action="store_true", help="compare with DataLoader and PyTorch")
    found.add_argument("--rounds", type=positive, default=1, help="runs of each contender, in turn")
    found.add_argument("--device", default="auto")
    return found


def measure(options: Namespace) -> None:
    from measurements.indexing import measure_indexing

    measure_indexing(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("model", "photos", "against"))
