"""A gallery on disk: catalogue, model and generations.

gallery/
    catalogue.sqlite     the source of truth: vector and facts of every photo
    queries.sqlite       sums over the sketches that were drawn; see ``index.gallery.query_moments``
    model/               the model bundle whose photo encoder made the vectors
    generations/000001/  files that searches run on, rebuildable; see ``index.gallery.generations``
    CURRENT              name of the current generation, switched atomically
    rejects.jsonl        photos that the last job could not use, with the reason
    writer.lock          held by the process that changes photos
    publish.lock, base.lock    held by those that publish; see ``index.gallery.staging``
"""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from index.accelerators.brute_force import compare_all
from index.accelerators.kinds import KindChoice
from index.accelerators.recall import QUERIES, K, effort_for, is_refuted, measured_recall, probe_queries
from index.errors import GalleryDamaged, GalleryError, GalleryLocked, ModelMismatch
from index.gallery.base_files import FINGERPRINTS, fingerprints
from index.gallery.catalogue import Catalogue
from index.gallery.database import PATIENCE
from index.gallery.generations import Generation, GenerationManifest, generation_folder, load_generation
from index.gallery.precision import recorded_precision
from index.gallery.publishing import base_is_due, publish_base, publish_changes, publish_layer
from index.gallery.uris import own_uris
from training.base.errors import BundleError
from training.base.stored_arrays import load_array
from training.model.bundle import copy_bundle
from training.model.manifest import read_manifest

__all__ = ["Gallery", "sampled_recall"]

_SEED = 1  # of the queries that a check measures recall with; they differ from those that chose the effort
_URIS = "relative"  # name of the fact that photos inside the gallery have relative URIs
_RETRY_SECONDS = 0.01  # between two attempts to become the one that writes
_ROUNDING = 1e-6  # error of a mapped vector, relative to the root mean square length of vectors


class Gallery:
    """An existing gallery. Use ``create`` or ``open`` to get one.

    Args:
        path: the gallery's folder.
        catalogue: the opened catalogue.
    """

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        self.path = path
        self.catalogue = catalogue

    @classmethod
    def create(cls, path: Path, model: Path) -> "Gallery":
        """Opens a gallery for writing, and creates it if it is missing.

        Args:
            path: the gallery's folder.
            model: the model bundle to embed photos with.

        Raises:
            ModelMismatch: if the gallery was built with another model.
            GalleryError: if ``path`` holds something other than a gallery.
            BundleError: if the model bundle cannot be used.
        """
        manifest = read_manifest(model)
        if path.exists() and not (path / "catalogue.sqlite").exists() and any(path.iterdir()):
            raise GalleryError(f"{path} is not empty and not a gallery; choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        gallery = cls(path, Catalogue(path / "catalogue.sqlite", create=True))
        try:
            gallery._adopt(model, manifest.digest)
        except BaseException:
            gallery.close()
            raise
        return gallery

    @classmethod
    def open(cls, path: Path, *, write: bool = False, patience: float = PATIENCE) -> "Gallery":
        """Opens an existing gallery.

        Args:
            path: the gallery's folder.
            write: allow writing.
            patience: seconds that a change waits for other processes that write to the catalogue.

        Raises:
            GalleryError: if there is no gallery at ``path``.
            GalleryDamaged: if its catalogue cannot be read.
        """
        if not (path / "catalogue.sqlite").is_file():
            raise GalleryError(f"{path} is not a gallery; make one with `svdraw index build`")
        return cls(path, Catalogue(path / "catalogue.sqlite", create=write, patience=patience))

    def close(self) -> None:
        """Closes the catalogue."""
        self.catalogue.close()

    @property
    def model_directory(self) -> Path:
        """Folder of the gallery's model bundle."""
        return self.path / "model"

    @contextmanager
    def writing(self, patience: float = 0) -> Iterator[None]:
        """Keeps other processes from writing to the gallery until the block ends.

        Args:
            patience: seconds to wait for another process that is writing.

        Raises:
            GalleryLocked: if another process is writing.
        """
        end = time.monotonic() + patience
        with (self.path / "writer.lock").open("a") as file:
            while not _locks(file, fcntl.LOCK_EX):
                if time.monotonic() >= end:
                    raise GalleryLocked(f"another process is writing to {self.path}; wait for it to end")
                time.sleep(_RETRY_SECONDS)
            self._own_uris()
            yield

    def is_being_written(self) -> bool:
        """Tells whether a process is writing to the gallery."""
        lock = self.path / "writer.lock"
        if not lock.exists():
            return False
        with lock.open() as file:
            return not _locks(file, fcntl.LOCK_SH)

    def configure(self, kind: KindChoice | None, target: float | None, neighbours: int | None = None) -> None:
        """Records the kind of index, the recall target and the number of neighbours that the next base uses."""
        facts = {"kind": kind, "target": target, "neighbours": neighbours}
        self.catalogue.set_facts({name: str(value) for name, value in facts.items() if value is not None})

    def make_filterable(self, names: Sequence[str] | None) -> None:
        """Chooses the fields that filters find quickly; None leaves the choice as it is. Empty names are passed over.

        Raises:
            GalleryLocked: if another process is writing.
            FilterError: if a field cannot be chosen.
        """
        if names is not None:
            with self.writing():
                self.catalogue.set_filterable(name for name in names if name)

    def publish(self) -> GenerationManifest:
        """Publishes a generation that is built from the catalogue alone; see ``publish_base``."""
        return publish_base(self.path, self.catalogue)

    def publish_changes(self) -> GenerationManifest:
        """Publishes a generation with the changes since the last one, if there are any; see ``publish_changes``."""
        return publish_changes(self.path, self.catalogue)

    def publish_layer(self) -> GenerationManifest | None:
        """Publishes the changes over the present base; None if that needs a new base. See ``publish_layer``."""
        return publish_layer(self.path, self.catalogue)

    def base_is_due(self) -> bool:
        """Tells whether a new base should be built; see ``base_is_due``."""
        return base_is_due(self.path, self.catalogue)

    def problems(self) -> list[str]:
        """Returns everything that is wrong with the gallery, one line each. The result is reproducible.

        Recall is reported if a sample of 200 queries shows, at a confidence of 99.9%, that it is below the target.
        """
        found = self.catalogue.problems()
        if found:
            return found
        try:
            manifest = read_manifest(self.model_directory)
            if manifest.digest != self.catalogue.fact("model"):
                found.append(f"{self.model_directory} holds another model than the one that made the vectors")
            if recorded_precision(self.catalogue) not in (None, *manifest.precisions):
                found.append(f"{self.model_directory} holds other eight-bit ranges than those that made the vectors")
        except BundleError as error:
            found.append(str(error))
        try:
            generation = load_generation(self.path)
            if generation.manifest.revision != self.catalogue.revision:
                return [*found, f"{self.path}: the published generation is older than the catalogue"]
            if not self._agrees(generation):
                return [*found, f"{self.path}: the published generation differs from the catalogue"]
        except GalleryDamaged as error:
            return [*found, str(error)]
        recall, target = sampled_recall(generation), generation.manifest.target
        if is_refuted(target, recall, QUERIES):
            found.append(
                f"{self.path}: recall is {recall:.3f} on {QUERIES} queries, below the target of {target}; "
                "rebuild the index with `svdraw index verify --repair`"
            )
        return found

    def _agrees(self, generation: Generation) -> bool:
        """Tells whether ids and vectors are made from those of the catalogue, which is read block by block.

        Photos of the base have fingerprints of what they were made from; those of the layer have taken in no others.
        """
        served = generation.positions.in_order()
        known = self._fingerprints(generation.manifest)
        start, scale = 0, float(np.sqrt(sum(generation.manifest.spectrum)))
        for block in self.catalogue.blocks(generation.manifest.dim):
            positions = served[start : start + len(block.ids)]
            start += len(block.ids)
            if not np.array_equal(generation.positions.ids_at(positions), block.ids):
                return False
            has_print = positions < len(known)
            if not np.array_equal(known[positions[has_print]], fingerprints(block.vectors[has_print])):
                return False
            expected = generation.order.photos(block.vectors[~has_print])
            actual = generation.accelerator.gather(positions[~has_print])
            if not np.allclose(actual, expected, rtol=0, atol=_ROUNDING * scale):
                return False
        return start == len(served)

    def _fingerprints(self, manifest: GenerationManifest) -> NDArray[np.uint64]:
        """Fingerprints by position in the base; none in a generation of an earlier version."""
        if FINGERPRINTS not in manifest.files:
            return np.empty(0, np.uint64)
        found: NDArray[np.uint64] = load_array(generation_folder(self.path, manifest.generation) / FINGERPRINTS)
        return found

    def _own_uris(self) -> None:
        """Makes URIs of photos inside the gallery relative; earlier versions stored absolute ones."""
        if self.catalogue.fact("uris") == _URIS or self.catalogue.fact("model") is None:
            return
        known = self.catalogue.uris()
        own = zip(known, own_uris(known, self.path), strict=True)
        self.catalogue.rename({known[before]: after for before, after in own if before != after})
        self.catalogue.set_facts({"uris": _URIS})

    def _adopt(self, model: Path, digest: str) -> None:
        known = self.catalogue.fact("model")
        if known is not None and known != digest:
            raise ModelMismatch(
                f"{self.path} was built with another model or other views ({known[:12]}, not {digest[:12]}); "
                "vectors of two models cannot be mixed: build a new gallery with another --out"
            )
        if known is None:
            with self.writing():
                copied = copy_bundle(model, self.model_directory)
                facts = {"dim": str(len(copied.spectrum)), "uris": _URIS, "model": digest}
                self.catalogue.set_facts(facts)  # after the copy, because they state that the model is there


def _locks(file: TextIO, kind: int) -> bool:
    """Tries to lock a file until it is closed."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sampled_recall(generation: Generation) -> float:
    """Measures recall@10 at the manifest's target, on ``QUERIES`` queries that are always the same."""
    manifest = generation.manifest
    photos = np.random.default_rng(_SEED).choice(generation.positions.in_order(), 2 * QUERIES)
    queries = probe_queries(generation.accelerator.gather(photos))
    blocks = (vectors for _, vectors in generation.blocks())
    truth = compare_all(queries, blocks, min(K, manifest.count), manifest.dim)[0]
    effort = effort_for(manifest.recall, manifest.dim, manifest.target)
    return measured_recall(generation.accelerator, queries, truth, manifest.dim, effort, manifest.count)
