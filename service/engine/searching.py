"""A search from query to results, in the thread of a worker."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import MetadataError
from index.gallery.expansion import expanded
from index.gallery.filters import conditions
from index.gallery.photos import Photo
from index.gallery.searcher import Choices, Hit
from service.encoding.decoding import Crop
from service.engine.queries import Image, images_of, marked, query_vector
from service.engine.relevance import Judge, relevance_judge
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import parse_object
from service.http.stopwatch import Stopwatch
from service.schemas import SearchResponse, SearchResult
from service.searches import SearchForm, SearchOptions, SearchRequest
from training.model.truncation import truncate

__all__ = [
    "MAX_CONTRIBUTIONS",
    "MAX_RESULTS",
    "check_answer",
    "search_by_images",
    "search_by_json",
    "search_by_request",
]

_FILTER_SECONDS = 5.0  # that a filter may take; one by fields that are filterable takes a hundredth
MAX_CONTRIBUTIONS = 250_000  # numbers in one answer: about 5 MB of JSON, written in one go
MAX_RESULTS = 10_000  # photos in one answer: about 3 MB of JSON without what their owners say of them
MAX_METADATA = 4_000_000  # bytes of that in one answer


def check_answer(serving: Serving, searches: Sequence[SearchOptions]) -> None:
    """Refuses searches that together ask for too many photos or contributions.

    Raises:
        RequestProblem: 422.
    """
    photos = sum(search.limit for search in searches)
    if photos > MAX_RESULTS:
        raise RequestProblem(
            422,
            f"the searches ask for {photos} photos, the sum of every 'limit', more than the limit of {MAX_RESULTS}; "
            "lower 'limit', or send fewer searches at once",
        )
    most, default = serving.searcher.dim, serving.bundle.default_dimensions
    asking = [search for search in searches if search.with_contributions]
    wanted = sum(search.limit * min(search.dimensions or default, most) for search in asking)
    if wanted > MAX_CONTRIBUTIONS:
        raise RequestProblem(
            422,
            f"'with_contributions' asks for {wanted} numbers, 'limit' times 'dimensions' of every search, more than "
            f"the limit of {MAX_CONTRIBUTIONS}; lower one of these, or send fewer searches at once",
        )


def search_by_json(
    serving: Serving, body: bytes, given: dict[str, Any], root: str, stopwatch: Stopwatch
) -> SearchResponse:
    """Searches by a JSON body; ``given`` holds the options from elsewhere in the request. See ``search_by_request``.

    Raises:
        ValidationError: if the body is not a valid search request.
    """
    return search_by_request(serving, SearchRequest.model_validate({**given, **parse_object(body)}), root, stopwatch)


def search_by_request(
    serving: Serving, request: SearchRequest, root: str, stopwatch: Stopwatch, searches: int = 1
) -> SearchResponse:
    """Searches by the sketches and photos that a JSON request names.

    Args:
        serving: what is served.
        request: the request.
        root: path below which the service is reached; the addresses of images begin with it.
        stopwatch: measures the stages of the search.
        searches: number of searches that share the answer; each may fill its part with metadata.

    Raises:
        RequestProblem: if an image cannot be used, a photo does not exist, or the answer would be too large.
        DimensionsError: if the gallery does not have this number of dimensions.
        FilterError: if the filter is not valid.
        QueryTimeout: if the filter takes too long.
    """
    _check(serving, request)
    return _find(serving, images_of(request), request, root, stopwatch, searches)


def search_by_images(
    serving: Serving, files: dict[str, list[bytes]], given: dict[str, Any], root: str, stopwatch: Stopwatch
) -> SearchResponse:
    """Searches by the bytes of sketches and photos, and options that are still to be validated.

    Args:
        serving: what is served.
        files: sketches by the name ``file``, photos by the name ``photo``.
        given: fields of ``SearchForm``.
        root: see ``search_by_request``.
        stopwatch: measures the stages of the search.

    Raises:
        ValidationError: if they are no options.
        RequestProblem: see ``search_by_request``; DimensionsError and FilterError likewise.
    """
    options = SearchForm.model_validate(given)
    _check(serving, options)
    crop = None if options.crop is None else Crop(*options.crop)
    sketches = [Image(content) for content in files.get("file", [])]
    photos = [Image(content, "photo", crop) for content in files.get("photo", [])]
    return _find(serving, [*sketches, *photos], options, root, stopwatch)


def _check(serving: Serving, options: SearchOptions) -> None:
    """Refuses what makes no sense before a sketch is embedded for it."""
    check_answer(serving, [options])
    conditions(options.filter or {})


def _find(
    serving: Serving,
    images: Sequence[Image],
    options: SearchOptions,
    root: str,
    stopwatch: Stopwatch,
    searches: int = 1,
) -> SearchResponse:
    judge = relevance_judge(serving, images, options)
    with serving.model.place(stopwatch) as place:
        query = query_vector(serving, images, options, stopwatch)
        with stopwatch.stage("search"):
            if options.filter:  # one that takes long must not keep others waiting
                place.leave()
            only = serving.catalogue.select(options.filter, _FILTER_SECONDS) if options.filter else None
            place.take()
            return _nearest(serving, query, options, only, root, judge, MAX_METADATA // searches)


def _nearest(
    serving: Serving,
    query: NDArray[np.float32],
    options: SearchOptions,
    only: NDArray[np.int64] | None,
    root: str,
    judge: Judge | None,
    metadata: int,
) -> SearchResponse:
    dimensions = options.dimensions or serving.bundle.default_dimensions
    searcher = serving.searcher
    choices = Choices(recall=options.recall, ids=only, unique=options.unique, without=marked(options))
    if options.expand:
        query = expanded(searcher, query, options.expand, dimensions=dimensions, **choices)
    [hits] = searcher.search(
        query[None],
        options.limit,
        dimensions=dimensions,
        offset=options.offset,
        score_threshold=options.score_threshold,
        **choices,
    )
    relevance: Sequence[float | None] = (
        [None] * len(hits) if judge is None else judge(searcher, query, dimensions, hits)
    )
    if options.min_relevance is not None:
        kept = [row for row, value in enumerate(relevance) if value is not None and value >= options.min_relevance]
        hits, relevance = [hits[row] for row in kept], [relevance[row] for row in kept]
    photos = _photos(serving, hits, metadata if options.with_payload else 0)
    found = [(hit, photos[hit.id]) for hit in hits if hit.id in photos]  # the others were removed in the meantime
    judged = {hit.id: value for hit, value in zip(hits, relevance, strict=True)}
    results = [_result(hit, photo, judged[hit.id], options, root) for hit, photo in found]
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
        complete=not serving.missing_shards,
        missing_shards=serving.missing_shards,
    )


def _photos(serving: Serving, hits: Sequence[Hit], metadata: int) -> dict[int, Photo]:
    try:
        return serving.catalogue.photos([hit.id for hit in hits], most=metadata)
    except MetadataError as error:
        detail = f"{error}, the limit of this answer; lower 'limit', or leave it out with 'with_payload': false"
        raise RequestProblem(422, detail) from error


def _result(hit: Hit, photo: Photo, relevance: float | None, options: SearchOptions, root: str) -> SearchResult:
    base = f"{root}/v1/photos/{photo.id}"
    payload = {"uri": photo.uri, "label": photo.label, "metadata": photo.metadata} if options.with_payload else {}
    return SearchResult(
        id=photo.id,
        score=hit.score,
        relevance=relevance,
        image_url=f"{base}/image",
        thumbnail_url=f"{base}/thumbnail",
        width=photo.width,
        height=photo.height,
        colors=photo.colors,
        **payload,
    )
