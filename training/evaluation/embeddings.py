"""Embeddings that were made elsewhere, read from a file, so that any method can be measured as a model here is."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from training.base.errors import DataError
from training.data.relevance import same_label
from training.evaluation.report import Searches

__all__ = ["read_searches"]

logger = logging.getLogger(__name__)

_NEEDED = ("sketches", "photos", "sketch_labels", "photo_labels")

Arrays = dict[str, NDArray[Any]]


def read_searches(file: Path) -> Searches:
    """Reads embeddings and labels from an ``.npz`` or a ``.safetensors`` file.

    The file holds ``sketches`` ``(queries, dim)`` and ``photos`` ``(gallery, dim)``, whose inner product is the score;
    ``sketch_labels`` and ``photo_labels``, numbers, or texts in an ``.npz``; and, if it is known, ``instances``
    ``(queries,)``: the position of the photo that each sketch depicts, or -1. Sketches whose label no photo has are
    left out, with a warning.

    Raises:
        DataError: if the file cannot be read, or an array is missing or does not fit the others.
    """
    arrays = _read(file)
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise DataError(f"{file} has no array {missing[0]!r}; it needs {', '.join(_NEEDED)}")
    sketches, photos = (_embeddings(file, name, arrays[name]) for name in ("sketches", "photos"))
    if sketches.shape[1] != photos.shape[1]:
        raise DataError(f"{file}: sketches have {sketches.shape[1]} dimensions and photos {photos.shape[1]}")
    labels = [
        _labels(file, name, arrays[name], len(values))
        for name, values in (("sketch_labels", sketches), ("photo_labels", photos))
    ]
    if labels[0].dtype.kind != labels[1].dtype.kind:
        raise DataError(f"{file}: labels must be numbers on both sides, or texts on both")
    searches = Searches(
        sketches, photos, same_label(*labels), labels[0].astype(str).tolist(), _own(file, arrays, sketches, photos)
    )
    return _with_something_to_find(file, searches)


def _read(file: Path) -> Arrays:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix == ".npz":
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return dict(stored)
    except FileNotFoundError as error:
        raise DataError(f"no embeddings: {file} does not exist") from error
    except (SafetensorError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file} cannot be read: {reason}") from error
    raise DataError(f"{file} is neither .npz nor .safetensors; write the embeddings to one of these")


def _embeddings(file: Path, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        raise DataError(f"{file}: {name} must be (n, dim) numbers, not {values.shape} of {values.dtype}")
    embeddings = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(embeddings).all():
        raise DataError(f"{file}: {name} holds numbers that are not finite, in 32 bits")
    return embeddings


def _labels(file: Path, name: str, values: NDArray[Any], count: int) -> NDArray[Any]:
    if values.shape != (count,) or values.dtype.kind not in "iuU":
        raise DataError(f"{file}: {name} must be ({count},) integers or texts, not {values.shape} of {values.dtype}")
    return values.astype(np.int64) if values.dtype.kind == "u" else values


def _own(file: Path, arrays: Arrays, sketches: NDArray[np.float32], photos: NDArray[np.float32]) -> NDArray[np.int64]:
    own = arrays.get("instances", np.full(len(sketches), -1))
    if own.shape != (len(sketches),) or own.dtype.kind not in "iu":
        raise DataError(f"{file}: instances must be ({len(sketches)},) integers, not {own.shape} of {own.dtype}")
    if own.min() < -1 or own.max() >= len(photos):
        raise DataError(f"{file}: instances must be positions of photos, -1 to {len(photos) - 1}")
    return own.astype(np.int64)


def _with_something_to_find(file: Path, searches: Searches) -> Searches:
    rows = np.flatnonzero(searches.relevance.is_found)
    if not len(rows):
        raise DataError(f"{file}: no photo has the label of any sketch")
    if lost := len(searches.sketches) - len(rows):
        logger.warning("%d of %d sketches are left out: no photo has their label", lost, len(searches.sketches))
    return Searches(
        searches.sketches[rows],
        searches.photos,
        searches.relevance[rows],
        [searches.classes[row] for row in rows.tolist()],
        searches.own[rows],
    )
