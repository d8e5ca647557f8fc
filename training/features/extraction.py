"""Backbone features of image files, cached on disk by content, so that a second run takes seconds."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.base.prefetch import map_ahead
from training.base.regular_files import open_regular, read_regular
from training.base.rejects import reject_reason
from training.features.cache import FeatureCache
from training.model.encoders import Encoder
from training.model.images import open_image
from training.model.tensors import module_tensors

__all__ = ["Features", "extract_features", "feature_key"]

_BATCH = 32


@dataclass(frozen=True)
class Features:
    """Features of files, in the order of the files.

    Attributes:
        values: ``(files, features)`` float32; rows of rejected files are zero.
        rejected: reason by position, for files that could not be used.
    """

    values: NDArray[np.float32]
    rejected: dict[int, str] = field(default_factory=dict)


def feature_key(encoder: Encoder) -> str:
    """A key of all that features depend on besides the image: the backbone, its weights, preprocessing and flip."""
    digest = hashlib.sha256()
    for name, tensor in module_tensors(encoder.backbone).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    preprocessing = encoder.preprocessing
    choices = [encoder.backbone.widths, preprocessing.model_dump(mode="json"), preprocessing.draft, encoder.config.flip]
    digest.update(json.dumps(choices).encode())
    return digest.hexdigest()


def extract_features(
    files: Sequence[Path], encoder: Encoder, cache: FeatureCache | None, device: torch.device, *, title: str
) -> Features:
    """Backbone features of every file, from the cache where they are known.

    Interrupted, it loses at most the last few batches: the next call goes on from the cache.

    Args:
        files: image files; those that cannot be read or decoded are rejected.
        encoder: its backbone, preprocessing and ``flip`` are used; it is put in evaluation mode.
        cache: cache to read and to fill; None computes every feature.
        device: device that the backbone runs on.
        title: title of the progress bar.

    Returns:
        The features, and the reason for each file that could not be used.
    """
    encoder.to(device).eval()
    key = feature_key(encoder) if cache else ""
    values = np.zeros((len(files), encoder.backbone.num_features), dtype=np.float32)
    rejected: dict[int, str] = {}
    missing: list[int] = []
    for position, digest in enumerate(map_ahead(_content_digest, files) if cache else repeat(None, len(files))):
        vector = cache.get(key, digest) if cache and digest else None
        if vector is None or vector.shape != values[position].shape:
            missing.append(position)
        else:
            values[position] = vector
    for batch in _batches(files, missing, encoder, rejected, title):
        rows = [each.position for each in batch]
        with torch.inference_mode():
            images = torch.stack([each.image for each in batch]).to(device)
            values[rows] = encoder.features(images).float().cpu().numpy()
        if cache:
            for each in batch:
                cache.put(key, each.digest, values[each.position])
            cache.commit()
    return Features(values, rejected)


class _Decoded(NamedTuple):
    """An image and the digest of the very bytes it was decoded from, for the file may have changed meanwhile."""

    position: int
    image: Tensor
    digest: bytes


def _content_digest(file: Path) -> bytes | None:
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None  # opening it again gives the reason


def _batches(
    files: Sequence[Path], positions: list[int], encoder: Encoder, rejected: dict[int, str], title: str
) -> Iterator[list[_Decoded]]:
    """Yields decoded batches; files that cannot be used go to ``rejected``."""

    def prepare(position: int) -> _Decoded | str:
        try:
            content = read_regular(files[position])
            image = encoder.preprocessing(open_image(content, draft=encoder.preprocessing.draft))
        except MemoryError:
            raise
        except Exception as error:  # no single image may end the job
            return reject_reason(error)
        return _Decoded(position, image, hashlib.sha256(content).digest())

    batch: list[_Decoded] = []
    progress = tqdm(positions, desc=title, unit="image", dynamic_ncols=True, disable=not positions)
    for position, image in zip(progress, map_ahead(prepare, positions), strict=True):
        if isinstance(image, str):
            rejected[position] = image
            continue
        batch.append(image)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
