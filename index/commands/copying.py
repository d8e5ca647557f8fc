"""The commands that copy a gallery: ``svdraw index snapshot`` and ``restore``."""

from contextlib import closing
from pathlib import Path

from pydantic import Field

from index.commands.options import GALLERY
from index.gallery.directory import Gallery
from index.gallery.snapshots import restore as restore_snapshot
from index.gallery.snapshots import snapshot as write_snapshot
from training.base.command_line import Options, Settings

__all__ = ["restore", "snapshot"]


class Snapshot(Settings):
    """Options of ``svdraw index snapshot``."""

    gallery: Path = Field(description=GALLERY)
    out: Path = Field(description="new folder for the snapshot")


def snapshot(*, settings: Options[Snapshot]) -> None:
    """Copies catalogue and model, from which a gallery can be rebuilt, but no photos; jobs may run at the same time."""
    with closing(Gallery.open(settings.gallery)) as gallery:
        print(f"{settings.out}: {write_snapshot(gallery, settings.out).count} photos")


class Restore(Settings):
    """Options of ``svdraw index restore``."""

    snapshot: Path = Field(description="folder of the snapshot")
    out: Path = Field(description="folder of the new gallery")


def restore(*, settings: Options[Restore]) -> None:
    """Makes a new gallery from a snapshot and publishes its first generation."""
    print(f"{settings.out}: {restore_snapshot(settings.snapshot, settings.out).count} photos")
