"""A GPU at work on everything: encoders, indexing, the service, exact search and training, in one JSON file.

    python bench/gpu.py --out gpu.json
    python bench/gpu.py --device cpu --scale tiny --out cpu.json

Measures, on photos, sketches and vectors that it makes up, with the starter model:

    encoders   images per second and milliseconds of a batch, for each precision, and PyTorch with nothing done to it
    indexing   photos per second of a whole job
    service    searches per second, p50 and p99, with one client and with many
    search     milliseconds of an exact search among a million and ten million vectors of 512 coordinates, at several
               `dimensions`: svdraw's matrix in 32 and 16 bits, FAISS's flat index on the GPU, and plain PyTorch
    training   steps and images per second of `svdraw fit`

The scale `full` is meant for one card with 80 GB, 16 cores and 128 GB of memory, and to end within 8 minutes there;
`tiny` runs the same code in seconds on a small CPU, and says nothing about speed. A part that fails is written down as
an error, and the others go on. Random vectors take as long as any; what is found is not measured here.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, run

PARTS = ("encoders", "indexing", "service", "search", "training")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--out", type=Path, required=True, help="JSON file to write")
    found.add_argument("--device", default="cuda", help="device to measure")
    found.add_argument("--scale", choices=("full", "tiny"), default="full", help="how much there is to do")
    found.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    return found


def measure(options: Namespace) -> None:
    from measurements.gpu import measure_device

    measure_device(options)


if __name__ == "__main__":
    run(parser(), measure)
