"""A service of one process and of several: searches a second, processor time for each, and memory.

    python bench/processes.py --gallery GALLERY --sketches DIR --processes 1 2 --json processes.json

Starts a service with each number of processes on a copy of the gallery, lets --clients clients search without pause,
and stops it, in turns and --rounds times. Memory is that of the parent, the processes and their decoders after that;
what several share is divided among them.

Clients and services share the machine's cores: compare processor time, and searches a second of the same round.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, required=True, help="folder of the gallery; it is copied")
    found.add_argument("--sketches", type=Path, required=True, help="folder of sketches that are used as queries")
    found.add_argument("--processes", nargs="+", type=positive, default=[1, 2], help="numbers of processes to compare")
    found.add_argument("--clients", type=positive, default=16, help="number of clients that search at the same time")
    found.add_argument("--seconds", type=positive, default=10, help="seconds of load in each round")
    found.add_argument("--rounds", type=positive, default=3, help="number of rounds")
    found.add_argument("--json", type=Path, help="file to write the figures to")
    return found


def measure(options: Namespace) -> None:
    from measurements.processes import measure_processes

    measure_processes(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
