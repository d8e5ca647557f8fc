"""One search from query to results, in the thread of a worker."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.catalogue import Photo
from index.searcher import Hit
from service.bodies import decode_base64, parse_object
from service.schemas import SearchOptions, SearchRequest, SearchResponse, SearchResult
from service.serving import Serving
from service.stopwatch import Stopwatch

__all__ = ["search_by_image", "search_by_json", "search_by_request"]


def search_by_json(serving: Serving, body: bytes, given: dict[str, Any], stopwatch: Stopwatch) -> SearchResponse:
    """Searches by a JSON body; ``given`` are the options beside it. See ``search_by_request``.

    Raises:
        ValidationError: if the body is no such request.
    """
    return search_by_request(serving, SearchRequest.model_validate({**given, **parse_object(body)}), stopwatch)


def search_by_request(serving: Serving, request: SearchRequest, stopwatch: Stopwatch) -> SearchResponse:
    """Searches by the sketch or the photo that a JSON request names.

    Raises:
        RequestProblem: if the sketch is unusable, or the photo unknown.
        DimensionsError: if the gallery has no such number of dimensions.
        FilterError: if the filter makes no sense.
    """
    if request.image is not None:
        return search_by_image(serving, decode_base64(request.image), request, stopwatch)
    assert request.photo_id is not None
    with stopwatch.stage("search"):
        query = serving.vector(serving.photo(request.photo_id))
        return _find(serving, query, request, without=(request.photo_id,))


def search_by_image(serving: Serving, content: bytes, options: SearchOptions, stopwatch: Stopwatch) -> SearchResponse:
    """Searches by the bytes of a sketch; see ``search_by_request``."""
    query = serving.model.embed(content, "sketch", stopwatch)
    with stopwatch.stage("search"):
        return _find(serving, query, options)


def _find(
    serving: Serving, query: NDArray[np.float32], options: SearchOptions, without: Sequence[int] = ()
) -> SearchResponse:
    searcher = serving.searcher
    dimensions = options.dimensions or serving.bundle.default_dimensions
    only = None
    if options.filter:
        wanted = options.model_dump(include={"filter"}, exclude_unset=True)["filter"]
        only = serving.gallery.catalogue.select(wanted)
    hits = searcher.search(
        query,
        options.limit,
        offset=options.offset,
        dimensions=dimensions,
        score_threshold=options.score_threshold,
        only=only,
        without=without,
    )
    photos = serving.gallery.catalogue.photos([hit.id for hit in hits])
    results = [_result(hit, photos[hit.id], options) for hit in hits if hit.id in photos]
    if options.with_contributions:
        for result in results:
            vector = serving.vector(photos[result.id])[:dimensions]
            result.contributions = [float(value) for value in query[:dimensions] * vector]
    return SearchResponse(results=results, dimensions=dimensions, total=searcher.count, generation=searcher.generation)


def _result(hit: Hit, photo: Photo, options: SearchOptions) -> SearchResult:
    base = f"/v1/photos/{photo.id}"
    payload = {"uri": photo.uri, "label": photo.label, "metadata": photo.metadata} if options.with_payload else {}
    return SearchResult(
        id=photo.id,
        score=hit.score,
        image_url=f"{base}/image",
        thumbnail_url=f"{base}/thumbnail",
        width=photo.width,
        height=photo.height,
        **payload,
    )
