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
from tqdm import tqdm

from training.base.prefetch import map_ahead
from training.base.regular_files import open_regular, read_regular
from training.base.rejects import reject_reason
from training.features.cache import FeatureCache
from training.inference.batching import one_by_one
from training.inference.exports import backbone_digest
from training.inference.plan import make_plan, torch_threads
from training.inference.runners import Runner, build_runner
from training.model.encoders import Encoder
from training.model.images import open_image

__all__ = ["Features", "extract_features", "feature_key"]

_COMMIT = 64  # images


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
    """A key of all that features depend on besides the image: the backbone and its weights, preprocessing and views."""
    preprocessing = encoder.preprocessing
    choices: list[object] = [backbone_digest(encoder), preprocessing.model_dump(mode="json"), preprocessing.draft]
    if encoder.config.views != 1:
        choices.append(encoder.config.views)
    return hashlib.sha256(json.dumps(choices).encode()).hexdigest()


def extract_features(
    files: Sequence[Path],
    encoder: Encoder,
    cache: FeatureCache | None,
    device: torch.device,
    *,
    title: str,
    runner: Runner | None = None,
) -> Features:
    """Backbone features of every file, from the cache where they are known.

    Interrupted, it loses at most the last few batches: the next call goes on from the cache.

    Args:
        files: image files; those that cannot be read or decoded are rejected.
        encoder: its backbone, preprocessing, ``flip`` and views are used; it is put in evaluation mode.
        cache: cache to read and to fill; None computes every feature.
        device: device that the backbone runs on.
        title: title of the progress bar.
        runner: runs the encoder; single precision when omitted, which is all that a cache may hold.

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
    runner = runner or build_runner(encoder, precision="fp32", images=len(missing))
    for done, result in enumerate(_results(files, missing, runner, device, rejected, title), start=1):
        values[result.position] = result.values
        if cache:
            cache.put(key, result.digest, result.values)
            if done % _COMMIT == 0:
                cache.commit()
    if cache:
        cache.commit()
    return Features(values, rejected)


class _Result(NamedTuple):
    """Features and the digest of the very bytes they were computed from, for the file may have changed meanwhile."""

    position: int
    values: NDArray[np.float32]
    digest: bytes


def _content_digest(file: Path) -> bytes | None:
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None  # opening it again gives the reason


def _results(
    files: Sequence[Path],
    positions: list[int],
    runner: Runner,
    device: torch.device,
    rejected: dict[int, str],
    title: str,
) -> Iterator[_Result]:
    """Yields the features of files in order; those that cannot be used go to ``rejected``."""
    plan, preprocessing = make_plan(device), runner.encoder.preprocessing

    def prepare(position: int) -> _Result | str:
        try:
            content = read_regular(files[position])
            image = preprocessing(open_image(content, draft=preprocessing.draft))
        except MemoryError:
            raise
        except Exception as error:  # no single image may end the job
            return reject_reason(error)
        return _Result(position, features(image), hashlib.sha256(content).digest())

    progress = tqdm(positions, desc=title, unit="image", dynamic_ncols=True, disable=not positions)
    with torch_threads(1), one_by_one(runner.features, plan.max_batch) as features:
        for position, result in zip(progress, map_ahead(prepare, positions, workers=plan.at_once), strict=True):
            if isinstance(result, str):
                rejected[position] = result
            else:
                yield result
