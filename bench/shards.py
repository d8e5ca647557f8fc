"""What it adds to a search that its photos are in shards on a Ray cluster, and not in this process.

    svdraw index export --gallery GALLERY --out PARTS
    svdraw index build --parts PARTS --shards 2 --out SHARDS --model GALLERY/model
    python bench/shards.py --shards SHARDS --json shards.json

Starts a cluster of two nodes on this machine with one replica of each shard, and calls in turns

- as many Ray actors as there are shards, which do nothing: the least that Ray takes;
- a replica of each shard, for next to nothing: what Ray Serve takes;
- the shards on the cluster, for a search with the facts of its photos;
- shards that are open in this process, for the same search.

With --drills, it then counts how many searches are complete, partial or failed while one of two replicas of a shard is
killed, both are, a generation is published, and all shards are deployed anew. A copy of the shards is used for that.

Times are medians, in milliseconds. Other work on the machine disturbs them: compare those of one run.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--shards", type=Path, required=True, help="folder of the shards")
    found.add_argument("--calls", type=positive, default=500, help="number of calls of each kind")
    found.add_argument("--limit", type=positive, default=24, help="number of photos that a search finds")
    found.add_argument("--drills", action="store_true", help="also kill and replace replicas while searches go on")
    found.add_argument("--json", type=Path, help="file to write the figures to")
    return found


def measure(options: Namespace) -> None:
    from measurements.shards import measure_shards

    measure_shards(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("shards",))
