"""Generations of a gallery: what searches run on, rebuildable from the catalogue.

generations/000002/
    manifest.json   what it is, and the SHA-256 of the other files
    photos.faiss    the base: an accelerator over all photos of some revision of the catalogue
    ids.npy         ids by position in the base, ascending
    contents.npy    content keys by position in the base
    order.npy       rotation from the model's coordinates to those of the generation's vectors
    clusters.npz    of kinds ivf, fp16, sq8
    vectors.npy     of kinds fp16, sq8: original vectors
    changes.npz     what changed after the base was built: ids, content keys and vectors, and the base's outdated ids

A generation that differs little from the one before shares its base, by hard links.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index.accelerators.interface import Accelerator
from index.accelerators.kinds import Kind, read_kind
from index.accelerators.layers import LayeredIndex
from index.accelerators.recall import RecallPoint
from index.errors import GalleryDamaged, GalleryError
from index.gallery.positions import ChangedPositions, Positions
from training.base.artifacts import file_sha256
from training.model.gallery_order import GalleryOrder

__all__ = [
    "CHANGES",
    "MANIFEST",
    "FileFacts",
    "Generation",
    "GenerationManifest",
    "file_facts",
    "generation_folder",
    "load_generation",
    "read_generation",
    "read_order",
]

MANIFEST = "manifest.json"
CHANGES = "changes.npz"
_BLOCK = 1 << 14


class FileFacts(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class GenerationManifest(BaseModel):
    """Content of a generation's ``manifest.json``.

    Attributes:
        generation: number, growing.
        created: UTC time in ISO 8601.
        kind: of the base.
        target: recall that searches aim at unless they say otherwise; 1 is exact.
        count: number of photos.
        dim: number of embedding coordinates.
        model: digest of the model.
        revision: of the catalogue.
        base_revision: of the catalogue that the base was built from.
        base_count: number of photos of the base, outdated ones included.
        recall: measured on the base.
        spectrum: second moments of the coordinates of the base, descending; see ``training.model.gallery_order``.
        files: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-gallery"] = "svdraw-gallery"
    version: Literal[2] = 2
    generation: int
    created: str
    kind: Kind = "exact"
    target: float = 1.0
    count: int
    dim: int
    model: str
    revision: int
    base_revision: int
    base_count: int
    recall: tuple[RecallPoint, ...] = ()
    spectrum: tuple[float, ...]
    files: dict[str, FileFacts]


class Generation(NamedTuple):
    """A loaded generation.

    Attributes:
        manifest: what it is.
        order: from the model's coordinates, which the catalogue has, to those of its vectors.
        positions: which photo lies where in the accelerator.
        accelerator: over its vectors.
    """

    manifest: GenerationManifest
    order: GalleryOrder
    positions: Positions
    accelerator: Accelerator

    def with_changes(
        self,
        gone: NDArray[np.int64],
        ids: NDArray[np.int64],
        contents: NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> "Generation":
        """The same accelerator and what changed after it was built.

        Args:
            gone: see ``ChangedPositions``.
            ids: ``(n,)`` of what is added, different.
            contents: ``(n,)`` content keys.
            vectors: ``(n, dim)`` in the generation's order.
        """
        positions = ChangedPositions(self.positions, gone, ids, contents)
        alive = positions.alive[: len(self.positions.ids)]
        return self._replace(positions=positions, accelerator=LayeredIndex(self.accelerator, alive, vectors))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Ids ``(n,)`` ascending and vectors ``(n, dim)``, in order, of its photos, some at a time."""
        positions = self.positions.in_order()
        for start in range(0, len(positions), _BLOCK):
            chosen = positions[start : start + _BLOCK]
            yield self.positions.ids[chosen], self.accelerator.gather(chosen)


def generation_folder(gallery: Path, number: int) -> Path:
    """Folder of a generation."""
    return gallery / "generations" / f"{number:06d}"


def file_facts(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    return FileFacts(bytes=path.stat().st_size, sha256=file_sha256(path))


def read_generation(path: Path) -> GenerationManifest:
    """Manifest of a gallery's current generation.

    Raises:
        GalleryError: if ``path`` is no gallery.
        GalleryDamaged: if no generation is published, or it is half-written.
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


def load_generation(path: Path) -> Generation:
    """Reads a gallery's current generation, verified against its checksums.

    Raises:
        GalleryError: if ``path`` is no gallery.
        GalleryDamaged: if a file is missing or corrupted; the message names it.
    """
    manifest = read_generation(path)
    try:
        return _load(generation_folder(path, manifest.generation), manifest)
    except (GalleryDamaged, OSError):
        if read_generation(path).generation == manifest.generation:
            raise
        return load_generation(path)  # a writer has switched and dropped what was being read


def read_order(folder: Path, manifest: GenerationManifest) -> GalleryOrder:
    """The coordinates of a generation."""
    rotation = np.load(folder / "order.npy", allow_pickle=False)
    return GalleryOrder(rotation, np.array(manifest.spectrum))


def _load(folder: Path, manifest: GenerationManifest) -> Generation:
    for name, expected in manifest.files.items():
        if not (folder / name).is_file() or file_facts(folder / name) != expected:
            raise GalleryDamaged(
                f"{folder / name} is missing or corrupted; run `svdraw index verify --repair` to rebuild it"
            )
    base, order = read_kind(manifest.kind, folder), read_order(folder, manifest)
    ids, contents = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("ids", "contents"))
    generation = Generation(manifest, order, Positions(ids, contents), base)
    if CHANGES not in manifest.files:
        return generation
    with np.load(folder / CHANGES, allow_pickle=False) as changes:
        return generation.with_changes(
            changes["outdated"], changes["ids"], changes["contents"], np.asarray(changes["vectors"])
        )
