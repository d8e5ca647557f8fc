"""Evaluation of a model bundle on a data set by the zero-shot protocol."""

import logging
from pathlib import Path
from typing import Literal

import torch

from training.base.errors import DataError, SplitError
from training.data.instances import own_photos
from training.data.pairs import PairedData, load_data
from training.data.splits import load_split
from training.evaluation.figures import (
    CurvePoint,
    RetrievalFigures,
    instance_accuracy,
    retrieval_figures,
    truncation_curve,
)
from training.features.paired import head_embeddings, paired_features
from training.model.bundle import Bundle
from training.model.gallery_order import order_of_photos

__all__ = ["EvaluationReport", "evaluate", "query_classes"]

logger = logging.getLogger(__name__)


class EvaluationReport(RetrievalFigures):
    """Figures of retrieval, with the model and the classes that they belong to.

    Attributes:
        instance_accuracy: acc@K by K of instance retrieval, where only the photo that a sketch depicts is relevant,
            over the sketches for which the data says which photo that is; empty if there are none.
        instance_queries: number of these sketches.
        instance_rule: how the data says which photo a sketch depicts, or why it does not; see ``InstancePairs``.
        gallery_curve: truncation curve in the order of the gallery, which an index computes from its photos and the
            model's spectrum, as long as no sketches were drawn; ``curve`` is in the order of the model.
        spectrum: singular values of the model, ``(dim,)``.
        model: digest of the bundle.
        classes: number of query classes.
        trained_classes: how many of them the model was trained on; 0 in a zero-shot evaluation.
    """

    instance_accuracy: dict[int, float]
    instance_queries: int
    instance_rule: str
    gallery_curve: list[CurvePoint]
    spectrum: list[float]
    model: str
    classes: int
    trained_classes: int


def evaluate(
    bundle: Bundle,
    data_path: Path,
    *,
    split: str | None,
    gallery: Literal["unseen", "all"] = "unseen",
    cache: Path,
    device: torch.device,
) -> EvaluationReport:
    """Measures retrieval with every sketch of the evaluated classes as a query.

    Args:
        bundle: model to evaluate.
        data_path: folders or pairs table; see ``load_data``.
        split: its unseen classes are the query classes. Omitted: the classes that the model's own split held
            out, or every class if it had none.
        gallery: ``unseen``, the photos of the query classes; or ``all`` photos of the data set, those the model
            was trained on included (generalised retrieval).
        cache: directory of cached features.
        device: device that computes.

    Raises:
        SplitError: if the model's own split does not fit the data set.
        TrainingError: for other data or splits that cannot be used.
    """
    data = load_data(data_path, bundle.manifest.training.settings.get("pairing", "auto"))
    classes = query_classes(bundle, data, split)
    wanted = data if gallery == "all" else data.select(classes)
    logger.info(wanted.instances.describe(wanted.sketches))
    features = paired_features(wanted, bundle.encoders, cache, device)
    wanted_labels = frozenset(classes)
    queries = sorted({row for group in features.data.groups if group.label in wanted_labels for row in group.sketches})
    if not queries:
        raise DataError("no sketch of the evaluated classes is usable; see the rejected files")
    sketches, photos = head_embeddings(bundle.sketch, features.x[queries]), head_embeddings(bundle.photo, features.y)
    relevance = features.relevance()[queries]
    own = own_photos(features.data)[queries]
    order = order_of_photos(photos, bundle.spectrum)
    return EvaluationReport(
        **retrieval_figures(sketches, photos, relevance).model_dump(),
        gallery_curve=truncation_curve(order.sketches(sketches), order.photos(photos), relevance),
        instance_accuracy=instance_accuracy(sketches, photos, own),
        instance_queries=int((own >= 0).sum()),
        instance_rule=data.instances.rule,
        spectrum=list(bundle.spectrum),
        model=bundle.digest,
        classes=len(classes),
        trained_classes=len(set(classes) & set(bundle.manifest.training.classes)),
    )


def query_classes(bundle: Bundle, data: PairedData, split: str | None) -> tuple[str, ...]:
    """The classes whose sketches are queries: the split's unseen ones, or those that the model's own split held out.

    Raises:
        SplitError: if the split, or the model's own, does not fit the data set.
    """
    if split is not None:
        return load_split(split, data.classes).unseen
    unseen = bundle.manifest.training.unseen
    if unseen and not set(unseen) <= set(data.classes):
        raise SplitError(
            "the classes that the model's split held out are not in this data set; name one with --split, or list the "
            "classes to evaluate in a file and give that"
        )
    return unseen or data.classes
