"""Relevance: the probability that a photo shows what was drawn, estimated from its score.

A score depends on the query, the dimensions compared and the gallery. Its z, the number of standard deviations by which
it exceeds the score of the gallery's mean photo, depends on them far less. The best of many photos has a large z even
if none of them is relevant, so the size N of the gallery enters too:

    relevance = 1 / (1 + exp(-(slope z + size ln N + offset)))

The three coefficients are fitted on sketches of classes held out of training; see ``training.evaluation.calibration``.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.model.gallery_order import GalleryOrder

__all__ = ["Calibration", "Coefficients", "score_spread"]

_TINY = float(np.finfo(np.float32).tiny)


class Coefficients(BaseModel):
    """The coefficients for one number of dimensions.

    Attributes:
        dimensions: number of dimensions compared.
        slope: of z, at least 0, so that relevance never falls as the score rises.
        size: of the logarithm of the number of photos, at most 0.
        offset: the constant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dimensions: int = Field(ge=1)
    slope: float = Field(ge=0)
    size: float = Field(le=0)
    offset: float


class Calibration(BaseModel):
    """A map from scores to relevance.

    Attributes:
        coefficients: for ascending numbers of dimensions; those between are interpolated.
        classes: number of classes that it was fitted on.
        queries: number of sketches that it was fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    coefficients: tuple[Coefficients, ...] = Field(min_length=1)
    classes: int
    queries: int

    def relevance(
        self, deviations: NDArray[np.floating], spread: float, dimensions: int, photos: int
    ) -> NDArray[np.float64]:
        """Computes the relevance of photos to a sketch.

        Args:
            deviations: scores minus the query's baseline, ``(n,)``; see ``GalleryOrder.baseline``.
            spread: the query's ``score_spread``.
            dimensions: number of dimensions compared.
            photos: number of photos in the gallery.

        Returns:
            ``(n,)``, from 0 to 1.
        """
        known = np.log([each.dimensions for each in self.coefficients])
        slope, size, offset = (
            np.interp(np.log(dimensions), known, [getattr(each, name) for each in self.coefficients])
            for name in ("slope", "size", "offset")
        )
        z = np.asarray(deviations, np.float64) / max(spread, _TINY)
        logits = slope * z + size * np.log(max(photos, 1)) + offset
        relevance: NDArray[np.float64] = 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, without overflow
        return relevance


def score_spread(order: GalleryOrder, sketches: NDArray[np.float32], dimensions: int) -> NDArray[np.float64]:
    """Computes the standard deviation of each query's scores over the photos of a gallery, from their moments alone.

    Args:
        order: the order of the gallery; its coordinates are uncorrelated and have the variances ``order.spectrum``.
        sketches: queries in the coordinates of the gallery, ``(n, dim)``; see ``GalleryOrder.sketches``.
        dimensions: number of coordinates compared.

    Returns:
        ``(n,)``.
    """
    squares = sketches[:, :dimensions].astype(np.float64) ** 2
    spread: NDArray[np.float64] = np.sqrt(squares @ np.maximum(order.spectrum[:dimensions], 0))
    return spread
