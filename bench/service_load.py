"""Load on a running service: throughput, latency, what a search costs, behaviour over the limit, memory.

    python bench/service_load.py --gallery GALLERY --sketches DIR --seconds 24
    python bench/service_load.py --gallery GALLERY --sketches DIR --phases soak --soak 600 --plot memory.png

Starts the service on a copy of the gallery, on a port of its own, and stops it. Measures the --phases that are named,
everything but the soak if none is:

    load       --clients clients that search without pause, in turns with the encoder alone: the service's own threads,
               runtime and preprocessing in this process, fed from memory. Then one client, and what the encoder does
               in batches, and in PyTorch one sketch at a time, as a plain handler would
    swap       the same load while photos are added, found and removed, and generations are switched
    flood      --flood connections at once on a service that answers 16, then one: how soon is it well again?
    soak       load for --soak seconds; memory over that time, drawn to --plot

Clients, service and encoder share the machine's cores, so figures are of the whole.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, required=True, help="folder of the gallery; it is copied")
    found.add_argument("--sketches", type=Path, required=True, help="folder of pictures, the queries")
    found.add_argument(
        "--phases", nargs="+", choices=("load", "swap", "flood", "soak"), default=["load", "swap", "flood"]
    )
    found.add_argument("--clients", type=positive, default=16, help="that search at once")
    found.add_argument("--seconds", type=positive, default=60, help="of load")
    found.add_argument("--flood", type=positive, default=200, help="connections of the flood")
    found.add_argument("--soak", type=positive, default=600, help="seconds of the soak")
    found.add_argument("--plot", type=Path, help="picture of memory during the soak")
    return found


def measure(options: Namespace) -> None:
    from measurements.service_load import measure_service

    measure_service(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
