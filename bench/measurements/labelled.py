"""Embeddings of sketches and photos in folders of classes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from measurements.command import BenchmarkError
from training.model.bundle import Bundle
from training.model.images import open_image

__all__ = ["Labelled", "embedded"]

Array = NDArray[np.float32]
_BATCH = 256


class Labelled(NamedTuple):
    """Embeddings ``(n, dim)`` and the class of each."""

    vectors: Array
    labels: NDArray[np.str_]


def embedded(bundle: Bundle, data: Path, cache: Path | None) -> tuple[Labelled, Labelled]:
    """Embeds all sketches and photos, or takes them from the cache."""
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["model"]) != bundle.digest:
                raise BenchmarkError(f"{cache} holds embeddings of another model; delete it or name another file")
            return tuple(Labelled(stored[f"{side} vectors"], stored[f"{side} labels"]) for side in ("sketch", "photo"))  # type: ignore[return-value]
    sketches = _embed(data / "sketch", bundle.encode_sketches)
    photos = _embed(data / "photo", bundle.encode_photos)
    if cache is not None:
        sides = {"sketch": sketches, "photo": photos}
        values = {f"{side} {name}": value for side, pair in sides.items() for name, value in pair._asdict().items()}
        np.savez(cache, model=bundle.digest, **values)
    return sketches, photos


def _embed(folder: Path, encode: Callable[[list[Image.Image]], Array]) -> Labelled:
    files = sorted(file for file in folder.glob("*/*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not files:
        raise BenchmarkError(f"{folder} has no folders of JPEG or PNG files")
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    vectors = [encode([open_image(file) for file in batch]) for batch in tqdm(batches, desc=folder.name)]
    return Labelled(np.concatenate(vectors), np.array([file.parent.name for file in files]))
