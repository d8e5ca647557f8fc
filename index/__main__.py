"""The commands of the index package, and the entry point of ``python -m index``."""

import sys
from functools import partial

from training.base.command_line import Command, Program, run_command

__all__ = ["COMMANDS", "INDEX", "SUMMARY"]

SUMMARY = "Build, change and search galleries of photos."

_command = partial(Command, extra="service")

COMMANDS = (
    _command(
        "index build",
        "index.commands.changing:build",
        "Embed photos and build a gallery, or bring it up to date.",
        "svdraw index build --photos ~/Pictures --out gallery",
    ),
    _command(
        "index add",
        "index.commands.changing:add",
        "Add photos to a gallery.",
        "svdraw index add --gallery gallery --photos ~/more",
    ),
    _command(
        "index sync",
        "index.commands.changing:sync",
        "Make a gallery agree with a folder of photos.",
        "svdraw index sync --gallery gallery --photos ~/Pictures",
    ),
    _command(
        "index relocate",
        "index.commands.changing:relocate",
        "Tell a gallery where a folder of photos is now.",
        "svdraw index relocate --gallery gallery --old /mnt/disk1/photos --new /srv/photos --dry-run",
    ),
    _command(
        "index remove",
        "index.commands.changing:remove",
        "Remove photos from a gallery; their files stay.",
        "svdraw index remove --gallery gallery --ids 17,18",
    ),
    _command(
        "index colors",
        "index.commands.changing:colors",
        "Measure the colours of photos that an earlier version indexed.",
        "svdraw index colors --gallery gallery",
    ),
    _command(
        "index compact",
        "index.commands.changing:compact",
        "Rebuild a gallery's search index and free the space of removed photos.",
        "svdraw index compact --gallery gallery",
    ),
    _command(
        "index publish",
        "index.commands.changing:publish",
        "Publish what changed in a gallery since its last generation.",
        "svdraw index publish --gallery gallery",
    ),
    _command(
        "index snapshot",
        "index.commands.copying:snapshot",
        "Copy what a gallery can be rebuilt from, except its photos.",
        "svdraw index snapshot --gallery gallery --out snapshot",
    ),
    _command(
        "index restore",
        "index.commands.copying:restore",
        "Make a new gallery from a snapshot.",
        "svdraw index restore --snapshot snapshot --out gallery",
    ),
    _command(
        "index embed",
        "index.commands.parts:embed",
        "Embed photos into Parquet files that galleries are built from.",
        "svdraw index embed --photos photos.parquet --out s3://bucket/parts",
    )._replace(extra="all"),
    _command(
        "index export",
        "index.commands.parts:export",
        "Write the photos of a gallery with their vectors into Parquet files.",
        "svdraw index export --gallery gallery --out parts",
    )._replace(extra="all"),
    _command(
        "index info",
        "index.commands.looking:info",
        "Print what a gallery holds.",
        "svdraw index info --gallery gallery",
    ),
    _command(
        "index verify",
        "index.commands.looking:verify",
        "Check a gallery for damage, and repair it.",
        "svdraw index verify --gallery gallery --repair",
    ),
    _command(
        "index search",
        "index.commands.looking:search",
        "Print the photos of a gallery that a sketch depicts.",
        "svdraw index search --gallery gallery --sketch sketch.png",
    ),
)

INDEX = Program("python -m index", SUMMARY, COMMANDS, inside="index")

if __name__ == "__main__":
    sys.exit(run_command(INDEX))
