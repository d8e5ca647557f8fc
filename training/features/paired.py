"""Paired data together with its backbone features."""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from training.base.errors import TrainingError
from training.base.rejects import report_rejects
from training.base.row_blocks import map_rows
from training.data.pairs import PairedData
from training.data.relevance import Relevance, class_relevance
from training.features.cache import FeatureCache
from training.features.extraction import Features, extract_features
from training.model.encoders import Encoder, PairedEncoders

__all__ = ["Extract", "FeatureSet", "head_embeddings", "paired_features"]


class Extract(Protocol):
    """What computes the features of files; see ``extract_features``."""

    def __call__(
        self, files: Sequence[Path], encoder: Encoder, cache: FeatureCache | None, device: torch.device, *, title: str
    ) -> Features:
        """See ``extract_features``."""


@dataclass(frozen=True)
class FeatureSet:
    """Paired data with the backbone features of every file.

    Attributes:
        data: sketches, photos and their groups.
        x: features of the sketches in the order of ``data.sketches``, ``(sketches, features)``.
        y: features of the photos in the order of ``data.photos``, ``(photos, features)``.
    """

    data: PairedData
    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @property
    def sketch_probabilities(self) -> NDArray[np.float64]:
        """The probability p(x) of each sketch, ``(sketches,)``."""
        return np.asarray(self.data.weights @ self.data.sketch_incidence())

    @property
    def photo_probabilities(self) -> NDArray[np.float64]:
        """The probability p(y) of each photo, ``(photos,)``."""
        return np.asarray(self.data.weights @ self.data.photo_incidence())

    def select(self, classes: Collection[str]) -> "FeatureSet":
        """The part made of the given classes."""
        return self.restricted(self.data.select(classes))

    def restricted(self, part: PairedData) -> "FeatureSet":
        """The features of part of the data.

        Args:
            part: data made of some of these files, with groups of its own; files that have no features here are left
                out.

        Raises:
            DataError: if no group remains.
        """
        rows = {file: row for row, file in enumerate(self.data.sketches)}
        columns = {file: row for row, file in enumerate(self.data.photos)}
        sketches = {row for row, file in enumerate(part.sketches) if file not in rows}
        photos = {row for row, file in enumerate(part.photos) if file not in columns}
        if sketches or photos:
            part = part.without(sketches, photos)
        return FeatureSet(
            part,
            _taken(self.x, [rows[file] for file in part.sketches]),
            _taken(self.y, [columns[file] for file in part.photos]),
        )

    def without(self, sketches: Collection[int], photos: Collection[int]) -> "FeatureSet":
        """Leaves out unusable files.

        Args:
            sketches: positions of unusable sketches.
            photos: positions of unusable photos.

        Raises:
            DataError: if no group remains.
        """
        return self.restricted(self.data.without(sketches, photos))

    def relevance(self) -> Relevance:
        """Which photos are of a class of which sketches; how rows of a table or instances pair them does not count."""
        return class_relevance(self.data)


def _taken(values: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.float32]:
    """Some rows; where it is all of them, the very same array, for there may be no room for two."""
    positions = np.asarray(rows, dtype=np.int64)
    return values if np.array_equal(positions, np.arange(len(values))) else values[positions]


def head_embeddings(encoder: Encoder, features: NDArray[np.float32], *, canonical: bool = True) -> NDArray[np.float32]:
    """Embeds backbone features with the head of an encoder.

    Args:
        encoder: the encoder whose head is used.
        features: backbone features, ``(n, features)``.
        canonical: whether to apply the canonical transformation.

    Returns:
        ``(n, dim)``.
    """
    head = encoder.head if canonical else encoder.head.bounded

    def embed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = head(torch.from_numpy(rows).to(encoder.head.mean.device)).cpu().numpy()
        return values

    with torch.inference_mode():
        return map_rows(embed, features, encoder.head.config.dim)


def paired_features(
    data: PairedData,
    encoders: PairedEncoders,
    cache: Path | None,
    device: torch.device,
    *,
    rejects: Path | None = None,
    extract: Extract = extract_features,
) -> FeatureSet:
    """Backbone features of every usable image of a data set.

    Args:
        data: sketches, photos and their groups.
        encoders: their backbones and preprocessing are used.
        cache: directory of cached features; None computes every feature and caches none.
        device: device that the backbones run on.
        rejects: file to which images that cannot be used are added.
        extract: computes the features of files, as ``extract_features`` does.

    Raises:
        DataError: if nothing is usable.
        TrainingError: if the cache cannot be read or written.
    """
    try:
        with closing(FeatureCache(cache)) if cache else nullcontext() as store:
            x = extract(data.sketches, encoders.sketch, store, device, title="sketch features")
            y = extract(data.photos, encoders.photo, store, device, title="photo features")
    except sqlite3.Error as error:
        raise TrainingError(
            f"the feature cache in {cache} cannot be used ({error}); free some space, or name another --cache"
        ) from error
    reasons = {str(data.sketches[row]): reason for row, reason in x.rejected.items()}
    reasons |= {str(data.photos[row]): reason for row, reason in y.rejected.items()}
    report_rejects(rejects, reasons, len(data.sketches) + len(data.photos), add=True)
    everything = FeatureSet(data, x.values, y.values)
    return everything.without(x.rejected, y.rejected) if reasons else everything
