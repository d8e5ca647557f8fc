"""One search from query to results."""

from collections.abc import Sequence
from functools import partial

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from index.catalogue import Photo
from index.searcher import Hit
from service.bodies import decode_base64
from service.metrics import Metrics
from service.schemas import SearchOptions, SearchRequest, SearchResponse, SearchResult
from service.serving import Serving
from service.stopwatch import Stopwatch

__all__ = ["search_by_image", "search_by_request"]


async def search_by_request(
    serving: Serving, metrics: Metrics, request: SearchRequest, stopwatch: Stopwatch
) -> SearchResponse:
    """Searches by the sketch or the photo that a JSON request names.

    Raises:
        RequestProblem: if the sketch is unusable, the photo unknown, or too many sketches wait.
        DimensionsError: if the gallery has no such number of dimensions.
    """
    if request.image is not None:
        content = await anyio.to_thread.run_sync(decode_base64, request.image)
        return await search_by_image(serving, metrics, content, request, stopwatch)
    assert request.photo_id is not None
    query = await anyio.to_thread.run_sync(lambda: serving.vector(serving.photo(request.photo_id or 0)))
    return await _search(serving, metrics, query, request, stopwatch, without=(request.photo_id,))


async def search_by_image(
    serving: Serving, metrics: Metrics, content: bytes, options: SearchOptions, stopwatch: Stopwatch
) -> SearchResponse:
    """Searches by the bytes of a sketch; see ``search_by_request``."""
    image = await serving.model.decode(content, "sketch")
    stopwatch.lap("decode")
    query = await serving.model.embed(image, "sketch")
    stopwatch.lap("encode")
    return await _search(serving, metrics, query, options, stopwatch)


async def _search(
    serving: Serving,
    metrics: Metrics,
    query: NDArray[np.float32],
    options: SearchOptions,
    stopwatch: Stopwatch,
    without: Sequence[int] = (),
) -> SearchResponse:
    response = await anyio.to_thread.run_sync(partial(_find, serving, query, options, without))
    stopwatch.lap("search")
    for stage, seconds in stopwatch.stages.items():
        metrics.stages.labels(stage).observe(seconds)
    return response


def _find(
    serving: Serving, query: NDArray[np.float32], options: SearchOptions, without: Sequence[int]
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
