"""Generations of a gallery: the files that searches run on, which can be rebuilt from the catalogue.

generations/000002/
    manifest.json   facts about the generation, and the SHA-256 of the other files
    photos.faiss    the base: a vector index (accelerator) over all photos of one revision of the catalogue
    ids.npy         ids by position in the base, ascending
    contents.npy    content keys by position in the base
    fingerprints.npy
                    numbers by position in the base that tell whether the catalogue has the same vectors
    order.npz       maps from the model's coordinates to those of the generation
    shortlist.faiss, bounds0.faiss, bounds0.npz, bounds1.faiss, bounds1.npz and vectors.npy
                    the base instead of photos.faiss, for the kinds codes and disk: codes, and the vectors themselves
    changes.npz     changes after the base was built: ids, content keys and vectors, and outdated ids of the base

A generation that differs little from the one before shares its base by hard links.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index.accelerators.interface import Accelerator
from index.accelerators.kinds import Kind
from index.accelerators.layers import LayeredIndex
from index.accelerators.recall import RecallPoint
from index.errors import GalleryDamaged, GalleryError
from index.gallery.bases import MAIN_MEMORY, Base, FileFacts, Place, check_files, read_base
from index.gallery.positions import ChangedPositions, Positions
from training.base.stored_arrays import load_arrays
from training.model.gallery_order import GalleryOrder, read_gallery_order

__all__ = [
    "CHANGES",
    "MANIFEST",
    "ORDER",
    "Generation",
    "GenerationManifest",
    "generation_folder",
    "load_generation",
    "read_generation",
]

MANIFEST = "manifest.json"
ORDER = "order.npz"
CHANGES = "changes.npz"
_BLOCK = 1 << 14


class GenerationManifest(BaseModel):
    """Content of a generation's ``manifest.json``.

    Attributes:
        generation: number of the generation; later generations have larger numbers.
        created: UTC time in ISO 8601.
        kind: kind of the base index.
        reason: why this kind was chosen.
        target: recall that searches aim at unless they ask for another; 1 is exact.
        count: number of photos.
        dim: number of embedding coordinates.
        model: digest of the model.
        revision: revision of the catalogue.
        base_revision: revision of the catalogue that the base was built from.
        base_count: number of photos in the base, including outdated ones.
        neighbours: number of neighbours that the vectors of the base have taken in; see ``training.model.neighbours``.
        neighbour_strength: how much they count; 0 where the gallery's photos show things of their own.
        recall: recall that was measured on the base.
        spectrum: singular values of the coordinates of the base, descending; see ``training.model.gallery_order``.
        sketches: number of sketches drawn to search the gallery that the order of coordinates was learned from.
        files: facts about the other files, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-gallery"] = "svdraw-gallery"
    version: Literal[3] = 3
    generation: int
    created: str
    kind: Kind = "exact"
    reason: str = ""
    target: float = 1.0
    count: int
    dim: int
    model: str
    revision: int
    base_revision: int
    base_count: int
    neighbours: int = 0
    neighbour_strength: float = 0.0
    recall: tuple[RecallPoint, ...] = ()
    spectrum: tuple[float, ...]
    sketches: int = 0
    files: dict[str, FileFacts]

    @property
    def base_files(self) -> dict[str, FileFacts]:
        """Facts about the files that the generation may share with others: all but the changes."""
        return {name: facts for name, facts in self.files.items() if name != CHANGES}


class Generation(NamedTuple):
    """A generation that is loaded and can be searched.

    Attributes:
        manifest: facts about the generation.
        order: maps from the model's coordinates, which the catalogue uses, to those of the generation's vectors.
        positions: which photo lies at which position of the accelerator.
        accelerator: the vector index over the generation's photos.
        base: the part that later generations can share; None if the generation was not read from files.
    """

    manifest: GenerationManifest
    order: GalleryOrder
    positions: Positions
    accelerator: Accelerator
    base: Base | None = None

    def with_changes(
        self,
        gone: NDArray[np.int64],
        ids: NDArray[np.int64],
        contents: NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> "Generation":
        """Returns the same generation with the changes after it was built.

        Args:
            gone: see ``ChangedPositions``.
            ids: ids ``(n,)`` of the added photos, all different.
            contents: content keys ``(n,)`` of the added photos.
            vectors: vectors ``(n, dim)`` of the added photos, in the generation's coordinates.
        """
        positions = ChangedPositions(self.positions, gone, ids, contents)
        alive = positions.alive[: self.positions.size]
        return self._replace(positions=positions, accelerator=LayeredIndex(self.accelerator, alive, vectors))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yields ids ``(n,)``, ascending, and vectors ``(n, dim)`` of the generation's photos, block by block."""
        positions = self.positions.in_order()
        for start in range(0, len(positions), _BLOCK):
            chosen = positions[start : start + _BLOCK]
            yield self.positions.ids_at(chosen), self.accelerator.gather(chosen)


def generation_folder(gallery: Path, number: int) -> Path:
    """Returns the folder of a generation."""
    return gallery / "generations" / f"{number:06d}"


def read_generation(path: Path) -> GenerationManifest:
    """Reads the manifest of a gallery's current generation.

    Raises:
        GalleryError: if ``path`` is not a gallery.
        GalleryDamaged: if no generation is published, or its files are incomplete.
    """
    if not (path / "catalogue.sqlite").is_file():
        raise GalleryError(f"{path} is not a gallery; make one with `svdraw index build`")
    pointer = path / "CURRENT"
    if not pointer.is_file():
        raise GalleryDamaged(f"{path} is half-written: no generation is published; run `svdraw index build` again")
    try:
        name = Path(pointer.read_text().strip()).name
        return GenerationManifest.model_validate_json((path / "generations" / name / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:  # a crash may leave null bytes
        raise GalleryDamaged(
            f"{pointer}, or the {MANIFEST} of the generation that it names, is missing, damaged or of another version; "
            "run `svdraw index verify --repair`"
        ) from error


def load_generation(path: Path, place: Place = MAIN_MEMORY, shared: Base | None = None) -> Generation:
    """Loads a gallery's current generation and verifies its checksums.

    Args:
        path: the gallery's folder.
        place: where to keep the vectors.
        shared: a base that is open. If the generation has the same, nothing of it is read, copied or verified again.

    Raises:
        GalleryError: if ``path`` is not a gallery.
        GalleryDamaged: if a file is missing or corrupted; the message names it.
    """
    manifest = read_generation(path)
    try:
        return _load(generation_folder(path, manifest.generation), manifest, place, shared)
    except (GalleryDamaged, OSError, RuntimeError):  # FAISS raises RuntimeError if its file is missing
        if read_generation(path).generation == manifest.generation:
            raise
        return load_generation(path, place, shared)  # a writer switched to a new one and deleted the one being read


def _load(folder: Path, manifest: GenerationManifest, place: Place, shared: Base | None) -> Generation:
    files = manifest.base_files
    is_shared = shared is not None and (shared.files, shared.place) == (files, place)
    check_files(folder, files, whole=not is_shared)
    if shared is None or not is_shared:
        base = read_base(folder, manifest.kind, files, read_gallery_order(folder / ORDER), place)
    else:
        base = shared
    generation = Generation(manifest, base.order, base.positions, base.accelerator, base)
    if CHANGES not in manifest.files:
        return generation
    check_files(folder, {CHANGES: manifest.files[CHANGES]})
    changes = load_arrays(folder / CHANGES)
    return generation.with_changes(changes["outdated"], changes["ids"], changes["contents"], changes["vectors"])
