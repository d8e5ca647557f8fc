"""The base of a generation: what is built in one go, read once, and shared by the generations after it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from index.accelerators.dimension_major import DimensionMajorMatrix
from index.accelerators.interface import Accelerator
from index.accelerators.kinds import Kind, read_kind
from index.errors import GalleryDamaged
from index.gallery.positions import Positions
from training.base.artifacts import file_sha256
from training.base.stored_arrays import load_array
from training.model.gallery_order import GalleryOrder

__all__ = ["MAIN_MEMORY", "Base", "FileFacts", "Place", "check_files", "file_facts", "has_sizes", "read_base"]

_BLOCK = 1 << 14


class FileFacts(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Place(NamedTuple):
    """Where vectors are kept for searches.

    Attributes:
        device: a CPU, which searches with the accelerator that was built, or a GPU, which holds the vectors in its own
            memory, dimension by dimension.
        half: keep 16 bits per coordinate on a GPU. The originals stay in main memory, and results stay exact.
    """

    device: torch.device
    half: bool = False


MAIN_MEMORY = Place(torch.device("cpu"))


class Base(NamedTuple):
    """A base that is open and can be searched.

    Attributes:
        files: facts about the files that it was read from, by name.
        place: where its vectors are.
        order: rotation from the model's coordinates, which the catalogue uses, to those of its vectors.
        positions: which photo lies at which position of the accelerator.
        accelerator: the vector index over its photos.
    """

    files: Mapping[str, FileFacts]
    place: Place
    order: GalleryOrder
    positions: Positions
    accelerator: Accelerator


def file_facts(path: Path) -> FileFacts:
    """Computes size and SHA-256 of a file."""
    return FileFacts(bytes=path.stat().st_size, sha256=file_sha256(path))


def has_sizes(folder: Path, files: Mapping[str, FileFacts]) -> bool:
    """Tells whether all files are there and have their sizes. Their contents are not read."""
    return not any(_damaged(folder / name, facts, whole=False) for name, facts in files.items())


def check_files(folder: Path, files: Mapping[str, FileFacts], *, whole: bool = True) -> None:
    """Checks the sizes of files, and their contents if ``whole``.

    Raises:
        GalleryDamaged: if a file is missing or corrupted; the message names it.
    """
    for name, facts in files.items():
        if _damaged(folder / name, facts, whole=whole):
            raise GalleryDamaged(
                f"{folder / name} is missing or corrupted; run `svdraw index verify --repair` to rebuild it"
            )


def read_base(folder: Path, kind: Kind, files: Mapping[str, FileFacts], order: GalleryOrder, place: Place) -> Base:
    """Reads a base whose files were checked.

    Ids and content keys are mapped into memory, so that bases that replace each other need no memory of their own for
    them that the system could not take back.
    """
    accelerator: Accelerator = read_kind(kind, folder)
    ids, contents = (np.asarray(load_array(folder / f"{name}.npy", mapped=True)) for name in ("ids", "contents"))
    if place.device.type != "cpu":
        vectors = _vectors(accelerator, len(ids), len(order.spectrum))
        accelerator = DimensionMajorMatrix(vectors, place.device, half=place.half)
    return Base(files, place, order, Positions(ids, contents), accelerator)


def _damaged(file: Path, facts: FileFacts, *, whole: bool) -> bool:
    if not file.is_file() or file.stat().st_size != facts.bytes:
        return True
    return whole and file_sha256(file) != facts.sha256


def _vectors(accelerator: Accelerator, count: int, dim: int) -> NDArray[np.float32]:
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, count))
        vectors[positions] = accelerator.gather(positions)
    return vectors
