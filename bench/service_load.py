"""Load test of a running service: throughput, latency, cost of a search, behaviour above the limit, and memory.

    python bench/service_load.py --gallery GALLERY --sketches DIR --seconds 24
    python bench/service_load.py --gallery GALLERY --sketches DIR --phases soak --soak 600 --plot memory.png

Starts the service on a copy of the gallery, on its own port, and stops it at the end. Measures the phases that --phases
names, by default all but the soak:

    load       --clients clients that search without pause, in turns with the encoder alone, which has the threads,
               runtime and preprocessing of the service but is fed from memory. Then one client, the encoder in batches
               and PyTorch with one sketch at a time, as in a simple handler
    swap       the same load while photos are added, found and removed, and generations are switched
    decoders   one sketch after the other, decoded here and in a process of its own: processor time, memory, and how
               much longer an image takes when its decoder is killed
    flood      --flood connections at once to a service that answers 16, then one: the time until searches succeed again
    soak       load for --soak seconds, and memory over that time, plotted to --plot

Clients, service and encoder share the machine's cores, so the figures include the cost of the clients.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run

PHASES = ("load", "swap", "decoders", "flood")


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, required=True, help="folder of the gallery; it is copied")
    found.add_argument("--sketches", type=Path, required=True, help="folder of sketches that are used as queries")
    found.add_argument(
        "--phases",
        nargs="+",
        choices=("load", "swap", "decoders", "flood", "soak"),
        default=["load", "swap", "decoders", "flood"],
    )
    found.add_argument("--clients", type=positive, default=16, help="number of clients that search at the same time")
    found.add_argument("--seconds", type=positive, default=60, help="seconds of load")
    found.add_argument("--flood", type=positive, default=200, help="number of connections of the flood")
    found.add_argument("--soak", type=positive, default=600, help="duration of the soak, in seconds")
    found.add_argument("--plot", type=Path, help="image file to plot the memory during the soak to")
    return found


def measure(options: Namespace) -> None:
    from measurements.service_load import measure_service

    measure_service(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
