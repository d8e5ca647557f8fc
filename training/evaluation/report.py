"""The report of an evaluation: figures of both kinds, whichever method made the embeddings.

*Sketch by sketch*, each photo keeps the embedding that its encoder gives it, as in most published figures. *With the
gallery's neighbours*, each photo takes in the photos of the gallery that are most like it, as an index does. The second
kind uses more, so the two are never compared with each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.relevance import Relevance
from training.evaluation.figures import (
    CurvePoint,
    RetrievalFigures,
    average_precisions,
    instance_accuracy,
    retrieval_figures,
    truncation_curve,
)
from training.model.gallery_order import SecondMoment, order_of_photos
from training.model.neighbours import with_neighbours

__all__ = ["GalleryFigures", "RetrievalReport", "Searches", "retrieval_report"]


class Searches(NamedTuple):
    """Embeddings of sketches and of the photos that they search, and what is to be found.

    Attributes:
        sketches: ``(queries, dim)``; the score of a photo is the inner product.
        photos: ``(gallery, dim)``.
        relevance: which photos are relevant to which sketches, at least one to each.
        classes: name of the class of each sketch, ``(queries,)``.
        own: position of the photo that each sketch depicts, ``(queries,)``; -1 where it is not known.
    """

    sketches: NDArray[np.float32]
    photos: NDArray[np.float32]
    relevance: Relevance
    classes: Sequence[str]
    own: NDArray[np.int64]


class GalleryFigures(RetrievalFigures):
    """Figures of retrieval of one kind.

    Attributes:
        map_by_class: mAP@all over the sketches of each class.
        instance_accuracy: acc@K by K of instance retrieval, where only the photo that a sketch depicts is relevant,
            over the sketches for which it is known; empty if there are none.
        gallery_curve: truncation curve in the order of the gallery, which an index computes from its photos and the
            model's spectrum, as long as no sketches were drawn; ``curve`` is in the order of the model.
    """

    map_by_class: dict[str, float]
    instance_accuracy: dict[int, float]
    gallery_curve: list[CurvePoint]


class RetrievalReport(GalleryFigures):
    """Figures sketch by sketch, and beside them those with the gallery's neighbours.

    Attributes:
        with_neighbours: the same figures where each photo takes in its neighbours; see ``training.model.neighbours``.
        instance_queries: number of sketches for which it is known which photo they depict.
        instance_rule: how this is known, or why it is not.
        classes: number of classes of the sketches.
        trained_classes: how many of them the model was trained on; 0 in a zero-shot evaluation.
    """

    with_neighbours: GalleryFigures
    instance_queries: int
    instance_rule: str
    classes: int
    trained_classes: int = 0


def retrieval_report(
    searches: Searches, spectrum: Sequence[float] | None = None, *, instance_rule: str = "none are given"
) -> RetrievalReport:
    """Measures embeddings, sketch by sketch and with the gallery's neighbours.

    Args:
        searches: embeddings and what is to be found.
        spectrum: mean square of each coordinate on the training data, ``(dim,)``; that of the photos when omitted.
        instance_rule: how it is known which photo a sketch depicts, in words.
    """
    if spectrum is None:
        moment = SecondMoment(searches.photos.shape[1])
        moment.add(searches.photos)
        spectrum = (np.diag(moment.products) / moment.count).tolist()
    mixed = searches._replace(photos=with_neighbours(searches.photos))
    return RetrievalReport(
        **_figures(searches, spectrum).model_dump(),
        with_neighbours=_figures(mixed, spectrum),
        instance_queries=int((searches.own >= 0).sum()),
        instance_rule=instance_rule,
        classes=len(set(searches.classes)),
    )


def _figures(searches: Searches, spectrum: Sequence[float]) -> GalleryFigures:
    sketches, photos, relevance, classes, own = searches
    order = order_of_photos(photos, spectrum)
    return GalleryFigures(
        **retrieval_figures(sketches, photos, relevance).model_dump(),
        map_by_class=_by_class(average_precisions(sketches, photos, relevance), classes),
        instance_accuracy=instance_accuracy(sketches, photos, own),
        gallery_curve=truncation_curve(order.sketches(sketches), order.photos(photos), relevance),
    )


def _by_class(values: NDArray[np.float64], classes: Sequence[str]) -> dict[str, float]:
    names, codes, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    means = np.bincount(codes, values) / counts
    return dict(zip(names.tolist(), means.tolist(), strict=True))
