"""Writes generations: all photos into a new base, or only the changes beside the existing base."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.accelerators.choice import Choice, choose_kind
from index.accelerators.kinds import KEEP_VECTORS, KINDS, Kind, build_kind
from index.accelerators.recall import calibrate
from index.errors import GalleryDamaged, GalleryError
from index.gallery.catalogue import Catalogue
from index.gallery.generations import (
    CHANGES,
    MANIFEST,
    ORDER,
    FileFacts,
    GenerationManifest,
    file_facts,
    generation_folder,
    read_generation,
)
from index.gallery.query_moments import known_queries
from training.base.artifacts import write_text
from training.model.bundle import read_manifest
from training.model.gallery_order import GalleryOrder, SecondMoment, gallery_order, read_gallery_order

__all__ = ["publish_base", "publish_changes"]

logger = logging.getLogger(__name__)

_KEPT = 2  # generations kept; the older one is for readers that have not switched yet
_FEW = 1000  # this many changes need no new base, however small the base is
_SHARE = 0.05  # of the base that may be out of date before it is rebuilt


def publish_base(path: Path, catalogue: Catalogue) -> GenerationManifest:
    """Builds a generation from all photos and switches to it. Readers see either the old or the new generation.

    Args:
        path: the gallery's folder.
        catalogue: the gallery's catalogue; its facts ``kind`` and ``target``, if set, choose the index and its recall.

    Raises:
        GalleryDamaged: if the catalogue is damaged.
        GalleryError: if the generation cannot be written.
    """

    def write(folder: Path) -> GenerationManifest:
        revision, count, dim = catalogue.revision, catalogue.count(), _dim(catalogue)
        sketches = known_queries(path, catalogue.fact("model") or "", dim)
        order = _order(path, catalogue, dim, sketches)
        order.write(folder / ORDER)
        _write_vectors(folder, catalogue, order, count)
        vectors: NDArray[np.float32] = np.load(folder / "vectors.npy", mmap_mode="r")
        kind, reason = _choice(catalogue, vectors)
        accelerator = build_kind(kind, vectors)
        accelerator.write(folder)
        recall = calibrate(accelerator, vectors)
        if kind not in KEEP_VECTORS:
            (folder / "vectors.npy").unlink()
        return GenerationManifest(
            generation=int(folder.name.lstrip(".")),
            created=_now(),
            kind=kind,
            reason=reason,
            target=_target(catalogue),
            count=count,
            dim=dim,
            model=catalogue.fact("model") or "",
            revision=revision,
            base_revision=revision,
            base_count=count,
            recall=tuple(recall),
            spectrum=tuple(order.spectrum.tolist()),
            sketches=sketches.count,
            files={file.name: file_facts(file) for file in sorted(folder.iterdir())},
        )

    return _publish(path, write)


def publish_changes(path: Path, catalogue: Catalogue) -> GenerationManifest:
    """Publishes the changes since the last generation beside its base; builds a new base when they are many.

    Raises:
        GalleryDamaged: if the catalogue is damaged.
        GalleryError: if the generation cannot be written.
    """
    try:
        current = read_generation(path)
    except GalleryDamaged:  # nothing is published yet, or a generation of another version
        return publish_base(path, catalogue)
    served = generation_folder(path, current.generation)
    if any(_size(served / name) != facts.bytes for name, facts in current.files.items()):
        return publish_base(path, catalogue)
    if _chosen(catalogue) not in (None, current.kind):
        return publish_base(path, catalogue)
    revision, target = catalogue.revision, _target(catalogue)
    if (revision, target) == (current.revision, current.target):
        return current
    base_ids: NDArray[np.int64] = np.load(served / "ids.npy", allow_pickle=False)
    ids, revisions = catalogue.revisions()
    outdated = np.setdiff1d(base_ids, ids[revisions <= current.base_revision], assume_unique=True)
    changed = int((revisions > current.base_revision).sum())
    if changed + len(outdated) > max(_FEW, _SHARE * current.base_count):
        return publish_base(path, catalogue)

    def write(folder: Path) -> GenerationManifest:
        files = {name: facts for name, facts in current.files.items() if name != CHANGES}
        for name in files:
            _link(served / name, folder / name)
        if changed or len(outdated):
            order = read_gallery_order(served / ORDER)
            files[CHANGES] = _write_changes(folder, catalogue, order, current.base_revision, outdated)
        number = int(folder.name.lstrip("."))
        update = {"generation": number, "created": _now(), "count": len(ids), "revision": revision, "files": files}
        return current.model_copy(update=update | {"target": target})

    return _publish(path, write)


def _publish(path: Path, write: Callable[[Path], GenerationManifest]) -> GenerationManifest:
    """Lets ``write`` fill a folder, then makes it the current generation in one atomic step."""
    with _staging(path) as folder:
        manifest = write(folder)
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        _sync(folder)
        folder.rename(generation_folder(path, manifest.generation))
        _sync_directory(path / "generations")
    write_text(path / "CURRENT", f"{manifest.generation:06d}\n")
    _sync_directory(path)
    for old in _generations(path):
        if int(old.name) <= manifest.generation - _KEPT:
            shutil.rmtree(old, ignore_errors=True)
    return manifest


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    """Creates the folder of the next generation, and deletes what a killed job left."""
    for left in (path / "generations").glob(".[0-9]*"):
        shutil.rmtree(left)
    number = max([0, *(int(folder.name) for folder in _generations(path))]) + 1
    folder = path / "generations" / f".{number:06d}"
    try:
        folder.mkdir(parents=True)
        yield folder
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError | RuntimeError):  # FAISS raises RuntimeError on a full disk
            raise
        reason = str(error).splitlines()[0]
        raise GalleryError(f"{folder} cannot be written ({reason}); free some space and try again") from error


def _order(path: Path, catalogue: Catalogue, dim: int, sketches: SecondMoment) -> GalleryOrder:
    """Computes the order of the coordinates from all photos and the sketches that were drawn."""
    photos = SecondMoment(dim)
    for block in catalogue.blocks(dim):
        photos.add(block.vectors)
    return gallery_order(photos, read_manifest(path / "model").spectrum, sketches)


def _write_vectors(folder: Path, catalogue: Catalogue, order: GalleryOrder, count: int) -> None:
    """Writes vectors.npy, ids.npy and contents.npy block by block; a memory-mapped file would crash on a full disk."""
    dim = len(order.spectrum)
    ids, contents = np.empty(count, np.int64), np.empty(count, np.int64)
    start = 0
    with (folder / "vectors.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in catalogue.blocks(dim):
            stop = start + len(block.ids)
            ids[start:stop], contents[start:stop] = block.ids, block.contents
            file.write(order.photos(block.vectors).tobytes())
            start = stop
    np.save(folder / "ids.npy", ids, allow_pickle=False)
    np.save(folder / "contents.npy", contents, allow_pickle=False)


def _write_changes(
    folder: Path, catalogue: Catalogue, order: GalleryOrder, base_revision: int, outdated: NDArray[np.int64]
) -> FileFacts:
    dim = len(order.spectrum)
    blocks = list(catalogue.blocks(dim, changed_after=base_revision))
    np.savez(
        folder / CHANGES,
        outdated=outdated,
        ids=np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)]),
        contents=np.concatenate([np.empty(0, np.int64), *(block.contents for block in blocks)]),
        vectors=np.concatenate([np.empty((0, dim), np.float32), *(order.photos(block.vectors) for block in blocks)]),
    )
    return file_facts(folder / CHANGES)


def _chosen(catalogue: Catalogue) -> Kind | None:
    """The kind that was chosen for the gallery; None if svdraw is to choose."""
    name = catalogue.fact("kind") or "auto"
    if name not in (*KINDS, "auto"):
        logger.warning("this gallery asks for the kind of index %s, which is gone; svdraw chooses one instead", name)
        catalogue.set_facts({"kind": "auto"})
    return next((kind for kind in KINDS if kind == name), None)


def _choice(catalogue: Catalogue, vectors: NDArray[np.float32]) -> Choice:
    """The kind of index to build over ``(n, dim)`` vectors, and why."""
    chosen = _chosen(catalogue)
    return choose_kind(vectors) if chosen is None else Choice(chosen, "it was asked for")


def _target(catalogue: Catalogue) -> float:
    return float(catalogue.fact("target") or 1.0)


def _dim(catalogue: Catalogue) -> int:
    return int(catalogue.fact("dim") or 0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def _link(source: Path, target: Path) -> None:
    """Gives a file a second name by a hard link, or copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _generations(path: Path) -> list[Path]:
    return sorted(folder for folder in (path / "generations").glob("[0-9]*") if folder.is_dir())


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    _sync_directory(folder)


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
