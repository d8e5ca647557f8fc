"""The relevance of results, where it can be told: for a single sketch that is not expanded, with a calibrated model."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from index.gallery.relevance import UNCALIBRATED, hit_relevance
from index.gallery.searcher import Hit
from service.engine.queries import Image, marked
from service.engine.serving import Searches, Serving
from service.errors import RequestProblem
from service.searches import SearchOptions

__all__ = ["Judge", "relevance_judge"]

Judge = Callable[[Searches, NDArray[np.float32], int, Sequence[Hit]], list[float]]
"""Tells the relevance of hits from the searcher, the query's vector and the number of dimensions."""


def relevance_judge(serving: Serving, images: Sequence[Image], options: SearchOptions) -> Judge | None:
    """Returns what tells the relevance of the results of a search; None if nothing can.

    Args:
        serving: what is served.
        images: the sketches and photos to search by.
        options: the other options of the search.

    Raises:
        RequestProblem: 422 if the search has a ``min_relevance`` that cannot be told.
    """
    calibration = serving.bundle.manifest.calibration
    is_one_sketch = [image.modality for image in images] == ["sketch"] and not marked(options) and not options.expand
    if calibration is not None and is_one_sketch:
        return lambda searcher, *found: hit_relevance(searcher, calibration, *found)
    if options.min_relevance is not None:
        reason = UNCALIBRATED
        if calibration is not None:
            reason = "only a search by a single sketch, without 'expand', has a relevance"
        raise RequestProblem(422, f"'min_relevance' cannot be used: {reason}")
    return None
