"""Snapshots: a consistent copy of a gallery's catalogue and model, and its restoration. Photos are not copied."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from index.errors import GalleryDamaged, GalleryError
from index.gallery.bases import FileFacts, file_facts
from index.gallery.directory import Gallery
from index.gallery.generations import GenerationManifest
from index.gallery.publishing import SHARED_ORDER
from training.base.artifacts import write_text
from training.model.bundle import copy_bundle

__all__ = ["SnapshotManifest", "restore", "snapshot"]

_MANIFEST = "snapshot.json"
_CATALOGUE = "catalogue.sqlite"


class SnapshotManifest(BaseModel):
    """Content of ``snapshot.json``, which is written last.

    Attributes:
        created: UTC time in ISO 8601.
        count: number of photos.
        model: digest of the model.
        catalogue: size and SHA-256 of the catalogue's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-snapshot"] = "svdraw-snapshot"
    version: Literal[1] = 1
    created: str
    count: int
    model: str
    catalogue: FileFacts


def snapshot(gallery: Gallery, out: Path) -> SnapshotManifest:
    """Copies catalogue and model to a new folder. Jobs and searches may go on at the same time.

    Raises:
        GalleryError: if ``out`` exists already, or the disk is full.
        GalleryDamaged: if the catalogue is damaged.
        BundleError: if the model is damaged.
    """
    _new_folder(out)
    model = copy_bundle(gallery.model_directory, out / "model").digest
    gallery.catalogue.back_up(out / _CATALOGUE)
    _copy_order(gallery.path, out)
    copied = Gallery.open(out)
    try:
        if problems := copied.catalogue.problems():
            raise GalleryDamaged("; ".join(problems))
        count = copied.catalogue.count()
    finally:
        copied.close()
    facts = file_facts(out / _CATALOGUE)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = SnapshotManifest(created=created, count=count, model=model, catalogue=facts)
    write_text(out / _MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def restore(source: Path, out: Path) -> GenerationManifest:
    """Makes a new gallery from a snapshot and publishes its first generation.

    Raises:
        GalleryDamaged: if the snapshot is incomplete or corrupted.
        GalleryError: if ``out`` exists already, or the disk is full.
        BundleError: if the model is damaged.
    """
    try:
        manifest = SnapshotManifest.model_validate_json((source / _MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise GalleryDamaged(f"{source / _MANIFEST} is missing or damaged; take another snapshot") from error
    if not (source / _CATALOGUE).is_file() or file_facts(source / _CATALOGUE) != manifest.catalogue:
        raise GalleryDamaged(f"{source / _CATALOGUE} is missing or corrupted; take another snapshot")
    _new_folder(out)
    copy_bundle(source / "model", out / "model")
    shutil.copyfile(source / _CATALOGUE, out / _CATALOGUE)
    _copy_order(source, out)
    gallery = Gallery.open(out, write=True)
    try:
        with gallery.writing():
            return gallery.publish()
    finally:
        gallery.close()


def _copy_order(source: Path, out: Path) -> None:
    """Copies the order that a shard shares with others; see ``index.shards``."""
    if (source / SHARED_ORDER).exists():
        shutil.copyfile(source / SHARED_ORDER, out / SHARED_ORDER)


def _new_folder(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise GalleryError(f"{out} is not empty; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
