"""Shards made of parts: every photo goes to the shard of its content, and all shards get one order of coordinates.

With an order of its own, each shard would count other coordinates as the first, and a search that compares fewer than
all of them could not be merged.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from index.accelerators.kinds import KindChoice
from index.errors import GalleryError, ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from index.gallery.publishing import SHARED_ORDER
from index.gallery.uris import own_uris
from index.parts.importing import ImportReport, facts_to_take, rows_of_parts, take_over
from index.shards.layout import ShardsManifest, are_shards, read_shards, shard_folder, shard_of, write_shards
from training.base.artifacts import atomic_write
from training.base.rejects import report_rejects
from training.model.gallery_order import SecondMoment, gallery_order
from training.model.manifest import read_manifest

__all__ = ["build_shards"]


def build_shards(
    out: Path,
    model: Path,
    parts: str,
    shards: int,
    *,
    kind: KindChoice | None = None,
    recall: float | None = None,
    filterable: Sequence[str] | None = None,
) -> ImportReport:
    """Makes shards of parts, or brings them up to date; killed at any point, the same call goes on.

    Vectors take in no neighbours, which would have to be looked for in all shards.

    Args:
        out: folder of the shards.
        model: the model bundle that the parts were made with.
        parts: folder of the parts, on any storage that fsspec opens.
        shards: number of shards; shards that are there keep theirs.
        kind: kind of index, see ``Gallery.configure``.
        recall: target of searches, see ``Gallery.configure``.
        filterable: fields that filters find quickly, see ``Gallery.make_filterable``.

    Raises:
        ModelMismatch: if the shards, or a part, are of another model.
        PartsError: if there are no parts, or one cannot be used.
        GalleryLocked: if another process is writing.
        GalleryError: if ``out`` has another number of shards or is something else, no photo is usable, or the disk is
            full.
    """
    manifest = _manifest(out, model, shards)
    with ExitStack() as stack:
        galleries = [
            stack.enter_context(closing(Gallery.create(shard_folder(out, shard), model))) for shard in range(shards)
        ]
        for gallery in galleries:
            gallery.configure(kind, recall, neighbours=0)
            gallery.make_filterable(filterable)
        with ExitStack() as writing:
            for gallery in galleries:
                writing.enter_context(gallery.writing())
            report = _distribute(galleries, parts, out)
        filled = [gallery for gallery in galleries if gallery.catalogue.has_others([])]
        if not filled:
            raise GalleryError(f"none of {report.rejected} photos in {parts} is usable; see {out / 'rejects.jsonl'}")
        _share_order(out, model, filled)
        for gallery in filled:
            gallery.publish_changes()
    write_shards(out, manifest)
    return report


def _manifest(out: Path, model: Path, shards: int) -> ShardsManifest:
    bundle = read_manifest(model)
    manifest = ShardsManifest(shards=shards, model=bundle.digest, dim=len(bundle.spectrum))
    if (out / "catalogue.sqlite").exists():
        raise GalleryError(f"{out} is a gallery and not a folder of shards; choose another --out")
    there = read_shards(out).shards if are_shards(out) else sum(1 for _ in out.glob("shard-*"))
    if there and there != shards and (are_shards(out) or there > shards):
        raise GalleryError(f"{out} has {there} shards, and keeps that number; give --shards {there}, or another --out")
    if are_shards(out) and (known := read_shards(out).model) != manifest.model:
        raise ModelMismatch(
            f"{out} was built with another model ({known[:12]}, not {manifest.model[:12]}); choose another --out"
        )
    return manifest


def _distribute(galleries: Sequence[Gallery], parts: str, out: Path) -> ImportReport:
    report, rejects = ImportReport(), dict[str, str]()
    for rows in rows_of_parts(parts, facts_to_take(galleries, parts)):
        newest = {photo.uri: photo for photo in rows.photos}
        for shard, gallery in enumerate(galleries):
            own = [photo for photo in newest.values() if shard_of(photo.sha256, len(galleries)) == shard]
            report = report.plus(take_over(gallery, own))
        for shard, gallery in enumerate(galleries):  # after they are where they belong now, so that none is ever lost
            _remove_strangers(gallery, [p for p in newest.values() if shard_of(p.sha256, len(galleries)) != shard])
        rejects |= dict(rows.rejected)
    report_rejects(out / "rejects.jsonl", rejects, report.taken + report.unchanged + len(rejects))
    return report._replace(rejected=len(rejects))


def _remove_strangers(gallery: Gallery, photos: Sequence[NewPhoto]) -> None:
    """Removes photos that were in a shard until their files got another content."""
    if ids := gallery.catalogue.ids(own_uris((photo.uri for photo in photos), gallery.path)):
        gallery.catalogue.remove(list(ids.values()))


def _share_order(out: Path, model: Path, galleries: Sequence[Gallery]) -> None:
    """Gives all shards one order, that of the photos of all; the first one is kept."""
    shared = out / SHARED_ORDER
    if not shared.exists():
        spectrum = read_manifest(model).spectrum
        moment = SecondMoment(len(spectrum))
        for gallery in galleries:
            for block in gallery.catalogue.blocks(len(spectrum)):
                moment.add(block.vectors)
        with atomic_write(shared) as temporary, temporary.open("wb") as file:
            gallery_order(moment, spectrum).write(file)
    for gallery in galleries:
        if not (gallery.path / SHARED_ORDER).exists():
            with atomic_write(gallery.path / SHARED_ORDER) as temporary:
                shutil.copyfile(shared, temporary)
