"""Shards: the photos of one collection in several ordinary galleries, which together answer as one would.

    SHARDS/shards.json    how many shards there are, and the model that made their vectors; written when all are there
    SHARDS/order.npz      the order of coordinates that all shards share
    SHARDS/shard-0003/    an ordinary gallery

The number of shards is a logical one, fixed when they are made: a machine may hold several. A photo's shard follows
from its SHA-256, so that identical files meet, and its id from its id in the shard, so that ids never collide.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from index.errors import GalleryDamaged, GalleryError
from index.gallery.photos import content_key
from training.base.artifacts import write_text

__all__ = [
    "MANIFEST",
    "MAX_SHARDS",
    "ShardsManifest",
    "are_shards",
    "global_ids",
    "local_ids",
    "read_shards",
    "shard_folder",
    "shard_of",
    "write_shards",
]

MANIFEST = "shards.json"
MAX_SHARDS = 4096


class ShardsManifest(BaseModel):
    """Content of ``shards.json``.

    Attributes:
        shards: number of shards.
        model: digest of the model.
        dim: number of embedding coordinates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-shards"] = "svdraw-shards"
    version: Literal[1] = 1
    shards: int = Field(ge=1, le=MAX_SHARDS)
    model: str
    dim: int


def are_shards(path: Path) -> bool:
    """Tells whether a folder holds shards, and not a gallery."""
    return (path / MANIFEST).is_file()


def read_shards(path: Path) -> ShardsManifest:
    """Reads what shards say of themselves.

    Raises:
        GalleryError: if there are none.
        GalleryDamaged: if it is not known how many there are.
    """
    if not are_shards(path):
        raise GalleryError(f"{path} holds no shards; make some with `svdraw index build --shards`")
    try:
        return ShardsManifest.model_validate_json((path / MANIFEST).read_bytes())
    except ValidationError as error:
        raise GalleryDamaged(f"{path / MANIFEST} is damaged or of another version; build the shards again") from error


def write_shards(path: Path, manifest: ShardsManifest) -> None:
    """Writes what shards say of themselves, completely or not at all."""
    write_text(path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def shard_folder(path: Path, shard: int) -> Path:
    """The folder of a shard, a gallery."""
    return path / f"shard-{shard:04d}"


def shard_of(sha256: str, shards: int) -> int:
    """The number of the shard that has a photo, by the SHA-256 of its file."""
    return content_key(sha256) % shards


def global_ids(ids: NDArray[np.int64], shard: int, shards: int) -> NDArray[np.int64]:
    """The ids of photos among all shards, by their ids in one; both are in the same order."""
    return ids * shards + shard


def local_ids(ids: NDArray[np.int64], shard: int, shards: int) -> NDArray[np.int64]:
    """The ids in a shard of those of its photos that are among these ids."""
    found: NDArray[np.int64] = ids[ids % shards == shard] // shards
    return found
