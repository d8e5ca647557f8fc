"""Paired data together with its backbone features."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.closed_form import Moments, feature_moments
from training.data import PairedData
from training.encoders import Encoder, PairedEncoders
from training.evaluation import mean_average_precision, sufficient_dimensions
from training.gallery_order import order_of_photos
from training.instances import own_photos

__all__ = ["FeatureSet", "head_embeddings"]


@dataclass(frozen=True)
class FeatureSet:
    """Features in the order of the data's files.

    Attributes:
        data: files and groups.
        x: ``(sketches, features)``.
        y: ``(photos, features)``.
    """

    data: PairedData
    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @property
    def sketch_probabilities(self) -> NDArray[np.float64]:
        """p(x), ``(sketches,)``."""
        return np.asarray(self.data.weights @ self.data.sketch_incidence())

    @property
    def photo_probabilities(self) -> NDArray[np.float64]:
        """p(y), ``(photos,)``."""
        return np.asarray(self.data.weights @ self.data.photo_incidence())

    def select(self, classes: Collection[str]) -> "FeatureSet":
        """The part made of the given classes."""
        return self.restricted(self.data.select(classes))

    def restricted(self, part: PairedData) -> "FeatureSet":
        """The features of part of the files, in that part's groups; files without features are left out."""
        rows = {file: row for row, file in enumerate(self.data.sketches)}
        columns = {file: row for row, file in enumerate(self.data.photos)}
        sketches = {row for row, file in enumerate(part.sketches) if file not in rows}
        photos = {row for row, file in enumerate(part.photos) if file not in columns}
        if sketches or photos:
            part = part.without(sketches, photos)
        return FeatureSet(
            part, self.x[[rows[file] for file in part.sketches]], self.y[[columns[file] for file in part.photos]]
        )

    def without(self, sketches: Collection[int], photos: Collection[int]) -> "FeatureSet":
        """Leaves out unusable files.

        Raises:
            DataError: if fewer than two groups remain.
        """
        return self.restricted(self.data.without(sketches, photos))

    def relevance(self) -> csr_array:
        """Which photos share a group with which sketches, ``(sketches, photos)``."""
        return csr_array(self.data.sketch_incidence().T @ self.data.photo_incidence())

    def moments(self, encoders: PairedEncoders) -> Moments:
        """Moments of the features as the heads standardise them."""
        return feature_moments(
            _standardised(encoders.sketch, self.x),
            _standardised(encoders.photo, self.y),
            self.data.sketch_incidence(),
            self.data.photo_incidence(),
            self.data.weights,
        )

    def held_out_score(self, encoders: PairedEncoders, classes: Collection[str]) -> float:
        """How well sketches of some classes find photos: the geometric mean of mAP@all over the searches they serve."""
        scores = [mean_average_precision(*search) for search in self._searches(encoders, classes)]
        return math.exp(sum(math.log(max(score, 1e-12)) for score in scores) / len(scores))

    def sufficient_dimensions(self, encoders: PairedEncoders, classes: Collection[str]) -> int:
        """Fewest dimensions that keep 99% of mAP@all in every search, in the order of the gallery searched.

        Args:
            encoders: in canonical form.
            classes: their sketches are the queries.
        """
        counts = []
        for sketches, photos, relevance in self._searches(encoders, classes):
            order = order_of_photos(photos, (photos.astype(np.float64) ** 2).mean(axis=0).tolist())
            counts.append(sufficient_dimensions(order.apply(sketches), order.apply(photos), relevance))
        return max(counts)

    def _searches(
        self, encoders: PairedEncoders, classes: Collection[str]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], csr_array]]:
        """What sketches of some classes may be wanted to find, as arguments of ``mean_average_precision``.

        Photos of the same class and, where file names tell which was drawn, the very photo; among all photos and among
        those of these classes alone.
        """
        for part in (self, self.select(classes)):
            queries = part._queries(classes)
            sketches = head_embeddings(encoders.sketch, part.x[queries])
            photos = head_embeddings(encoders.photo, part.y)
            yield sketches, photos, part.relevance()[queries]
            own = own_photos(part.data)[queries]
            if known := np.flatnonzero(own >= 0).tolist():
                cells = (np.ones(len(known)), (np.arange(len(known)), own[known]))
                yield sketches[known], photos, csr_array(cells, shape=(len(known), len(photos)))

    def _queries(self, classes: Collection[str]) -> list[int]:
        return sorted({row for group in self.data.groups if group.label in classes for row in group.sketches})


def head_embeddings(encoder: Encoder, features: NDArray[np.float32], *, canonical: bool = True) -> NDArray[np.float32]:
    """Embeddings of features.

    Args:
        encoder: its head is used.
        features: ``(n, features)``.
        canonical: whether to apply the canonical transformation.

    Returns:
        ``(n, dim)``.
    """
    with torch.inference_mode():
        inputs = torch.from_numpy(features).to(encoder.head.mean.device)
        embeddings = encoder.head(inputs) if canonical else encoder.head.bounded(inputs)
        values: NDArray[np.float32] = embeddings.cpu().numpy()
    return values


def _standardised(encoder: Encoder, features: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, scale = encoder.head.mean.cpu().numpy(), encoder.head.scale.cpu().numpy()
    return np.asarray((features - mean) / scale, dtype=np.float32)
