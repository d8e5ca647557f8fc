"""Writes generations: all photos into a new base, or only the changes beside the existing base."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.accelerators.choice import Choice, choose_kind
from index.accelerators.kinds import KEEP_VECTORS, KINDS, Kind, build_kind
from index.accelerators.recall import calibrate
from index.errors import GalleryDamaged
from index.gallery.base_files import take_in_neighbours, write_embeddings, write_vectors
from index.gallery.bases import FileFacts, file_facts, has_sizes
from index.gallery.catalogue import Catalogue
from index.gallery.generations import CHANGES, ORDER, GenerationManifest, generation_folder, read_generation
from index.gallery.query_moments import known_queries
from index.gallery.staging import BASE, NEXT, alone, link, staging, switch_to, sync
from training.base.machine import memory_limit
from training.base.stored_arrays import load_array
from training.model.gallery_order import GalleryOrder, SecondMoment, gallery_order, read_gallery_order
from training.model.manifest import read_manifest
from training.model.neighbours import NEIGHBOURS

__all__ = ["SHARED_ORDER", "base_is_due", "publish_base", "publish_changes", "publish_layer"]

logger = logging.getLogger(__name__)

SHARED_ORDER = "order.npz"  # in a gallery's folder: the order to use, which it shares with others, instead of its own
_FEW = 1000  # this many changes need no new base, however small the base is
_SHARE = 0.05  # of the base that may be out of date before it is rebuilt
_LARGEST = 4  # times as many changes are laid over a base while another is built


def publish_base(path: Path, catalogue: Catalogue) -> GenerationManifest:
    """Builds a generation from all photos and switches to it. Readers see either the old or the new generation.

    The base is built from one state of the catalogue, without keeping others from changing it. What changed meanwhile
    is laid over the base when it is published.

    Args:
        path: the gallery's folder.
        catalogue: the gallery's catalogue; its facts ``kind`` and ``target``, if set, choose the index and its recall.

    Raises:
        GalleryDamaged: if the catalogue is damaged.
        GalleryError: if the generation cannot be written.
    """
    with alone(path, BASE):
        return _publish_base(path, catalogue)


def publish_changes(path: Path, catalogue: Catalogue) -> GenerationManifest:
    """Publishes the changes since the last generation beside its base; builds a new base when they are many.

    If another process is building a base already, this waits for it.

    Raises:
        GalleryDamaged: if the catalogue is damaged.
        GalleryError: if the generation cannot be written.
    """
    if base_is_due(path, catalogue):
        with alone(path, BASE):
            if base_is_due(path, catalogue):  # another process may have built it
                return _publish_base(path, catalogue)
    return publish_layer(path, catalogue) or publish_base(path, catalogue)


def publish_layer(path: Path, catalogue: Catalogue) -> GenerationManifest | None:
    """Publishes the changes since the base of the current generation was built, as a layer over the same base.

    The cost grows with the number of these changes, not with the number of photos.

    Returns:
        The current generation, a new one if there were changes; None if only a new base can hold them, because there is
        no whole base, or it is badly out of date.

    Raises:
        GalleryDamaged: if the catalogue is damaged.
        GalleryError: if the generation cannot be written.
    """
    with alone(path, NEXT), catalogue.frozen() as frozen:
        current = _whole(path)
        if current is None or (difference := _difference(path, current, frozen)) is None:
            return None
        if difference.size > _LARGEST * _tolerated(current):
            return None
        revision, target = frozen.revision, _target(frozen)
        if (revision, target) == (current.revision, current.target):
            return current
        served = generation_folder(path, current.generation)
        with staging(path, NEXT) as folder:
            for name in current.base_files:
                link(served / name, folder / name)
            return switch_to(path, folder, _with_layer(folder, current, frozen, difference))


def base_is_due(path: Path, catalogue: Catalogue) -> bool:
    """Tells whether a new base should be built, because the present one is out of date, damaged or of another kind."""
    with catalogue.frozen() as frozen:
        current = _whole(path)
        if current is None or _chosen(frozen) not in (None, current.kind):
            return True
        if current.neighbours != _neighbours(frozen, current.base_count, current.dim):
            return True
        try:
            difference = _difference(path, current, frozen)
        except FileNotFoundError:  # writers have switched twice and cleared the generation
            return base_is_due(path, catalogue)
        return difference is None or difference.size > _tolerated(current)


class _Difference(NamedTuple):
    """Ids of the base's photos that it no longer holds as they are, and of photos that the catalogue has instead."""

    outdated: NDArray[np.int64]
    changed: NDArray[np.int64]

    @property
    def size(self) -> int:
        return len(self.outdated) + len(self.changed)


def _publish_base(path: Path, catalogue: Catalogue) -> GenerationManifest:
    with staging(path, BASE) as folder:
        built = _build(path, folder, catalogue)
        for name in built.files:
            sync(folder / name)
        with alone(path, NEXT), catalogue.frozen() as frozen:
            difference = _difference_from(folder, built, frozen)
            published = switch_to(path, folder, _with_layer(folder, built, frozen, difference))
    catalogue.forget_removed(published.base_revision)
    return published


def _build(path: Path, folder: Path, catalogue: Catalogue) -> GenerationManifest:
    """Writes a base of the catalogue's present state, which is read before the index is built, and then let go."""
    with catalogue.frozen() as frozen:
        revision, count, dim = frozen.revision, frozen.count(), _dim(frozen)
        photos = write_embeddings(folder, frozen, dim, count)
    neighbours, strength = _neighbours(catalogue, count, dim), 0.0
    if neighbours:
        photos, strength = take_in_neighbours(folder, photos, neighbours)
    is_shared = (path / SHARED_ORDER).exists()
    sketches = SecondMoment(dim) if is_shared else known_queries(path, catalogue.fact("model") or "", dim)
    spectrum = read_manifest(path / "model").spectrum
    order = read_gallery_order(path / SHARED_ORDER) if is_shared else gallery_order(photos, spectrum, sketches)
    order.write(folder / ORDER)
    vectors = write_vectors(folder, order)
    kind, reason = _choice(catalogue, vectors)
    accelerator = build_kind(kind, vectors)
    accelerator.write(folder)
    recall = calibrate(accelerator, vectors)
    if kind not in KEEP_VECTORS:
        (folder / "vectors.npy").unlink()
    return GenerationManifest(
        generation=0,
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
        neighbours=neighbours,
        neighbour_strength=strength,
        recall=tuple(recall),
        spectrum=tuple(order.spectrum.tolist()),
        sketches=sketches.count,
        files={file.name: file_facts(file) for file in sorted(folder.iterdir())},
    )


def _with_layer(
    folder: Path, base: GenerationManifest, catalogue: Catalogue, difference: _Difference
) -> GenerationManifest:
    """Writes the changes, if there are any, beside a base; returns the manifest of both."""
    files = base.base_files
    if difference.size:
        order = read_gallery_order(folder / ORDER)
        files[CHANGES] = _write_changes(folder, catalogue, order, base.base_revision, difference.outdated)
        sync(folder / CHANGES)
    count = base.base_count - len(difference.outdated) + len(difference.changed)
    update = {"created": _now(), "count": count, "revision": catalogue.revision, "files": files}
    return base.model_copy(update=update | {"target": _target(catalogue)})


def _whole(path: Path) -> GenerationManifest | None:
    """The manifest of the current generation; None if there is none of this version, or a file is missing or cut."""
    try:
        current = read_generation(path)
    except GalleryDamaged:
        return None
    if has_sizes(generation_folder(path, current.generation), current.files):
        return current
    return None if read_generation(path) == current else _whole(path)  # else writers have cleared it meanwhile


def _difference(path: Path, current: GenerationManifest, catalogue: Catalogue) -> _Difference | None:
    """What a layer over the current base holds; None if the catalogue has forgotten what was removed since."""
    if catalogue.removed_since > current.base_revision:
        return None
    return _difference_from(generation_folder(path, current.generation), current, catalogue)


def _difference_from(folder: Path, base: GenerationManifest, catalogue: Catalogue) -> _Difference:
    changed = catalogue.changed_after(base.base_revision)
    touched = np.union1d(changed, catalogue.removed_after(base.base_revision))
    ids = np.asarray(load_array(folder / "ids.npy", mapped=True))
    places = np.minimum(np.searchsorted(ids, touched), len(ids) - 1)
    return _Difference(touched[ids[places] == touched], changed)


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


def _tolerated(base: GenerationManifest) -> float:
    """How many changes are laid over a base before it is rebuilt."""
    return max(_FEW, _SHARE * base.base_count)


def _chosen(catalogue: Catalogue) -> Kind | None:
    """The kind that was chosen for the gallery; None if svdraw is to choose."""
    return next((kind for kind in KINDS if kind == catalogue.fact("kind")), None)


def _choice(catalogue: Catalogue, vectors: NDArray[np.float32]) -> Choice:
    """The kind of index to build over ``(n, dim)`` vectors, and why."""
    chosen, name = _chosen(catalogue), catalogue.fact("kind") or "auto"
    if chosen is not None:
        return Choice(chosen, "it was asked for")
    if name != "auto":
        logger.warning("this gallery asks for the kind of index %s, which is gone; svdraw chooses one instead", name)
        catalogue.set_facts({"kind": "auto"})
    return choose_kind(vectors)


def _neighbours(catalogue: Catalogue, count: int, dim: int) -> int:
    """How many neighbours each of so many photos takes in; none where looking for them would need too much memory."""
    wanted = int(catalogue.fact("neighbours") or NEIGHBOURS)
    return wanted if 4 * count * dim <= memory_limit() // 2 else 0


def _target(catalogue: Catalogue) -> float:
    return float(catalogue.fact("target") or 1.0)


def _dim(catalogue: Catalogue) -> int:
    return int(catalogue.fact("dim") or 0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
