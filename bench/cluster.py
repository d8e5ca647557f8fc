"""An embedding job on two nodes of a Ray cluster on this machine, which lose a node and the command on the way.

    python bench/cluster.py --photos DIR --model RUN --json cluster.json

Copies --count photos, of which --broken are cut off, to a temporary folder, starts two nodes there, and measures

- the job in one process, without a cluster;
- the job on the cluster, with two actors that have a processor each;
- the job on the cluster, with a node killed when both have written, the command killed later, and then run again. Its
  parts are compared with those of the first job.

Other work on the machine disturbs the rates.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run, share


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--photos", type=Path, required=True, help="folder of photos; they are copied")
    found.add_argument("--model", type=Path, help="model bundle; the starter model when omitted")
    found.add_argument("--count", type=positive, default=2000, help="number of photos; fewer files are used repeatedly")
    found.add_argument("--broken", type=share, default=0.01, help="share of the photos that are cut off")
    found.add_argument("--part-size", type=positive, default=32, help="number of photos in a part")
    found.add_argument("--json", type=Path, help="file to write the figures to")
    return found


def measure(options: Namespace) -> None:
    from measurements.cluster import measure_cluster

    measure_cluster(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("photos",))
