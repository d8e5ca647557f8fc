"""The relevance of what a search for a single sketch found."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.gallery.searcher import Hit
from training.model.calibration import Calibration, score_spread
from training.model.gallery_order import GalleryOrder

__all__ = ["UNCALIBRATED", "Searched", "hit_relevance"]

UNCALIBRATED = "the gallery's model has no calibration; `svdraw calibrate` adds one"


class Searched(Protocol):
    """What was searched, such as a ``Searcher``."""

    @property
    def order(self) -> GalleryOrder:
        """The maps from the model's coordinates to those that ``dimensions`` counts."""

    @property
    def count(self) -> int:
        """Number of photos."""


def hit_relevance(
    searcher: Searched, calibration: Calibration, query: NDArray[np.float32], dimensions: int, hits: Sequence[Hit]
) -> list[float]:
    """Computes the relevance of hits to a sketch, each from 0 to 1.

    Args:
        searcher: that found them.
        calibration: of the gallery's model.
        query: the sketch's embedding, ``(dim,)``.
        dimensions: number of coordinates compared.
        hits: of the sketch.
    """
    baseline = searcher.order.baseline(query[None])[0]
    [spread] = score_spread(searcher.order, searcher.order.sketches(query[None], dimensions), dimensions)
    deviations = np.array([hit.score for hit in hits]) - baseline
    return [float(each) for each in calibration.relevance(deviations, float(spread), dimensions, searcher.count)]
