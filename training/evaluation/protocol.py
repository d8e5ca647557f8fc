"""Evaluation of a model bundle on a data set by the zero-shot protocol."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch

from training.base.errors import DataError, SplitError
from training.data.instances import own_photos
from training.data.pairs import PairedData, load_data
from training.data.splits import load_split
from training.evaluation.report import RetrievalReport, Searches, retrieval_report
from training.features.paired import head_embeddings, paired_features
from training.model.bundle import Bundle

__all__ = ["EvaluationReport", "evaluate", "query_classes", "searches_by_classes"]

logger = logging.getLogger(__name__)


class EvaluationReport(RetrievalReport):
    """Figures of retrieval, with the model that they belong to.

    Attributes:
        spectrum: singular values of the model, ``(dim,)``.
        model: digest of the bundle.
    """

    spectrum: list[float]
    model: str


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
    searches = searches_by_classes(bundle, data, classes, gallery=gallery, cache=cache, device=device)
    report = retrieval_report(searches, bundle.spectrum, instance_rule=data.instances.rule)
    return EvaluationReport(
        **report.model_dump(exclude={"classes", "trained_classes"}),
        spectrum=list(bundle.spectrum),
        model=bundle.digest,
        classes=len(classes),
        trained_classes=len(set(classes) & set(bundle.manifest.training.classes)),
    )


def searches_by_classes(
    bundle: Bundle,
    data: PairedData,
    classes: Sequence[str],
    *,
    gallery: Literal["unseen", "all"] = "unseen",
    cache: Path,
    device: torch.device,
) -> Searches:
    """Embeds the sketches of some classes, and the photos that they search.

    Args:
        bundle: see ``evaluate``.
        data: sketches, photos and their groups.
        classes: names of the classes of the queries.
        gallery: see ``evaluate``; likewise ``cache`` and ``device``.
        cache: directory of cached features.
        device: device that computes.

    Raises:
        DataError: if no sketch of these classes is usable.
    """
    wanted = data if gallery == "all" else data.select(classes)
    logger.info(wanted.instances.describe(wanted.sketches))
    features = paired_features(wanted, bundle.encoders, cache, device)
    wanted_labels = frozenset(classes)
    queries = sorted({row for group in features.data.groups if group.label in wanted_labels for row in group.sketches})
    if not queries:
        raise DataError("no sketch of the evaluated classes is usable; see the rejected files")
    return Searches(
        head_embeddings(bundle.sketch, features.x[queries]),
        head_embeddings(bundle.photo, features.y),
        features.relevance()[queries],
        _names(features.data, wanted_labels, queries),
        own_photos(features.data)[queries],
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


def _names(data: PairedData, classes: Collection[str], queries: Sequence[int]) -> list[str]:
    """The class of each query; the first one, for a sketch of several."""
    names: dict[int, str] = {}
    for group in data.groups:
        if group.label in classes:
            for row in group.sketches:
                names.setdefault(row, group.label)
    return [names[row] for row in queries]
