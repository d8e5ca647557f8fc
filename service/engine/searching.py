"""A search from query to results, in the thread of a worker."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.gallery.filters import conditions
from index.gallery.photos import Photo
from index.gallery.searcher import Hit
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import decode_base64, parse_object
from service.http.stopwatch import Stopwatch
from service.schemas import SearchOptions, SearchRequest, SearchResponse, SearchResult
from training.model.truncation import truncate

__all__ = [
    "MAX_CONTRIBUTIONS",
    "_FILTER_SECONDS",
    "check_contributions",
    "search_by_image",
    "search_by_json",
    "search_by_request",
]

_FILTER_SECONDS = 5.0  # that a filter may take; one by fields that are filterable takes a hundredth
MAX_CONTRIBUTIONS = 250_000  # numbers in one answer: about 5 MB of JSON, written in one go


def check_contributions(serving: Serving, searches: Iterable[SearchOptions]) -> None:
    """Refuses searches that together ask for too many contributions.

    Raises:
        RequestProblem: 422.
    """
    most, default = serving.searcher.dim, serving.bundle.default_dimensions
    asking = [search for search in searches if search.with_contributions]
    wanted = sum(search.limit * min(search.dimensions or default, most) for search in asking)
    if wanted > MAX_CONTRIBUTIONS:
        raise RequestProblem(
            422,
            f"'with_contributions' asks for {wanted} numbers, 'limit' times 'dimensions' of every search, more than "
            f"the limit of {MAX_CONTRIBUTIONS}; lower one of these, or send fewer searches at once",
        )


def search_by_json(serving: Serving, body: bytes, given: dict[str, Any], stopwatch: Stopwatch) -> SearchResponse:
    """Searches by a JSON body; ``given`` holds the options from elsewhere in the request. See ``search_by_request``.

    Raises:
        ValidationError: if the body is not a valid search request.
    """
    return search_by_request(serving, SearchRequest.model_validate({**given, **parse_object(body)}), stopwatch)


def search_by_request(serving: Serving, request: SearchRequest, stopwatch: Stopwatch) -> SearchResponse:
    """Searches by the sketch or the photo that a JSON request names.

    Raises:
        RequestProblem: if the sketch cannot be used, or the photo does not exist.
        DimensionsError: if the gallery does not have this number of dimensions.
        FilterError: if the filter is not valid.
        QueryTimeout: if the filter takes too long.
    """
    _check(serving, request)
    if request.image is not None:
        return _search_by_bytes(serving, decode_base64(request.image), request, stopwatch)
    assert request.photo_id is not None
    with stopwatch.stage("search"):
        photo = serving.photo(request.photo_id)
        return _find(serving, serving.vector(photo), request, like=photo.id)


def search_by_image(serving: Serving, content: bytes, given: dict[str, Any], stopwatch: Stopwatch) -> SearchResponse:
    """Searches by the bytes of a sketch and options that are still to be validated; see ``search_by_request``.

    Raises:
        ValidationError: if they are no options.
    """
    options = SearchOptions.model_validate(given)
    _check(serving, options)
    return _search_by_bytes(serving, content, options, stopwatch)


def _search_by_bytes(serving: Serving, content: bytes, options: SearchOptions, stopwatch: Stopwatch) -> SearchResponse:
    query = serving.model.embed(content, "sketch", stopwatch)
    if serving.drawn is not None and not (options.offset or options.with_contributions):  # not the same sketch again
        serving.drawn.add(query)
    with stopwatch.stage("search"):
        return _find(serving, query, options)


def _check(serving: Serving, options: SearchOptions) -> None:
    """Refuses what makes no sense before a sketch is embedded for it."""
    check_contributions(serving, [options])
    conditions(options.filter or {})


def _find(
    serving: Serving, query: NDArray[np.float32], options: SearchOptions, like: int | None = None
) -> SearchResponse:
    dimensions = options.dimensions or serving.bundle.default_dimensions
    only = serving.gallery.catalogue.select(options.filter, _FILTER_SECONDS) if options.filter else None
    searcher = serving.searcher
    [hits] = searcher.search(
        query[None],
        options.limit,
        dimensions=dimensions,
        offset=options.offset,
        score_threshold=options.score_threshold,
        recall=options.recall,
        ids=only,
        unique=options.unique,
        without=like,
    )
    photos = serving.gallery.catalogue.photos([hit.id for hit in hits])
    found = [(hit, photos[hit.id]) for hit in hits if hit.id in photos]  # the others were removed in the meantime
    results = [_result(hit, photo, options) for hit, photo in found]
    if options.with_contributions:
        [prefix] = truncate(searcher.order.sketches(query[None], dimensions), dimensions)
        vectors = truncate(searcher.vectors([hit.id for hit, _ in found]), dimensions)
        for result, values in zip(results, prefix * vectors, strict=True):
            result.contributions = values.tolist()
    return SearchResponse(
        results=results,
        dimensions=dimensions,
        baseline=float(searcher.order.baseline(query[None])[0]),
        total=searcher.count,
        generation=searcher.generation,
    )


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
