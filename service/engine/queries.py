"""What a search looks for, as one vector: a sketch, a photo, or several of them with weights.

Scores are inner products, so the sum of the scores of several queries is the score of one query, their sum. A search
with many queries therefore costs as much as one with a single query, and stays exact.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.encoding.decoding import Crop
from service.engine.serving import Serving
from service.errors import RequestProblem
from service.http.bodies import decode_base64
from service.http.stopwatch import Stopwatch
from service.searches import SearchOptions, SearchRequest, WeightedQuery
from training.model.encoders import Modality

__all__ = ["Image", "Weighted", "combined", "images_of", "mark_weights", "marked", "query_vector"]

POSITIVE = 1.5  # weight of the photos marked as positive, all together; docs/evaluation.md shows what these gain
NEGATIVE = -0.75
NEGATIVE_ALONE = -0.25  # without a positive photo, more would turn the query away from the sketch itself


class Image(NamedTuple):
    """An image to search by: its file, which encoder embeds it, which part of it, and how much it counts."""

    content: bytes
    modality: Modality = "sketch"
    crop: Crop | None = None
    weight: float = 1.0


class Weighted(NamedTuple):
    """A query vector ``(dim,)`` and its weight."""

    vector: NDArray[np.float32]
    weight: float


def images_of(request: SearchRequest) -> list[Image]:
    """The images of a JSON request.

    Raises:
        RequestProblem: 400 if one of them is not base64.
    """
    return [_image(query) for query in request.every_query if query.photo_id is None]


def _image(query: WeightedQuery) -> Image:
    if query.photo is not None:
        return Image(decode_base64(query.photo), "photo", _crop(query), query.weight)
    assert query.image is not None
    return Image(decode_base64(query.image), weight=query.weight)


def _crop(query: WeightedQuery) -> Crop | None:
    return None if query.crop is None else Crop(*query.crop)


def marked(options: SearchOptions) -> list[int]:
    """Ids of the photos that a search names, which are left out of its results."""
    named = options.every_query if isinstance(options, SearchRequest) else []
    ids = [query.photo_id for query in named if query.photo_id is not None]
    return [*ids, *options.positive, *options.negative]


def mark_weights(positive: int, negative: int) -> tuple[float, float]:
    """The weight of each of so many photos marked as positive, and of each marked as negative."""
    return POSITIVE / max(1, positive), (NEGATIVE if positive else NEGATIVE_ALONE) / max(1, negative)


def query_vector(
    serving: Serving, images: Sequence[Image], options: SearchOptions, stopwatch: Stopwatch
) -> NDArray[np.float32]:
    """Embeds the images of a search and combines them with the photos that it names; ``(dim,)``.

    Raises:
        RequestProblem: 404 if a photo does not exist, 422 if the queries cancel each other out; or what is wrong with
            an image.
    """
    stored = list(_stored(serving, options))
    embedded = [
        Weighted(serving.model.embed(image.content, image.modality, stopwatch, image.crop), image.weight)
        for image in images
    ]
    if serving.drawn is not None and _is_first(options):
        for image, query in zip(images, embedded, strict=True):
            if image.modality == "sketch":
                serving.drawn.add(query.vector)
    return combined([*embedded, *stored])


def _is_first(options: SearchOptions) -> bool:
    """Whether this is a whole sketch, and not again, for a further page, for contributions or with photos marked."""
    again = options.offset or options.with_contributions or options.positive or options.negative
    return options.learn and not again


def _stored(serving: Serving, options: SearchOptions) -> Iterator[Weighted]:
    """The photos of the gallery that a search names; those marked share the weight of their mark."""
    for query in options.every_query if isinstance(options, SearchRequest) else []:
        if query.photo_id is not None:
            yield Weighted(serving.vector(serving.photo(query.photo_id)), query.weight)
    weights = mark_weights(len(options.positive), len(options.negative))
    for ids, weight in zip((options.positive, options.negative), weights, strict=True):
        for identifier in ids:
            yield Weighted(serving.vector(serving.photo(identifier)), weight)


def combined(queries: Sequence[Weighted]) -> NDArray[np.float32]:
    """The weighted sum of queries, each brought to unit length first; it is as long as they are on average.

    A single query stays as it is, so that its scores do.

    Raises:
        RequestProblem: 422 if no query has a positive weight, or the sum is zero.
    """
    if all(query.weight <= 0 for query in queries):
        raise RequestProblem(422, "there is nothing to search by: no sketch, and no photo with a positive weight")
    if len(queries) == 1:
        return queries[0].vector
    vectors = np.array([query.vector for query in queries], np.float64)
    weights = np.array([query.weight for query in queries])
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
    total = weights / lengths @ vectors
    length = float(np.linalg.norm(total))
    if length < 1e-6 * np.abs(weights).sum():
        raise RequestProblem(422, "the queries cancel each other out; change their weights")
    return np.asarray(total * (lengths.mean() / length), np.float32)
