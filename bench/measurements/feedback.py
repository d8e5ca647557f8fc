"""Simulates a user who marks results, and measures the rankings before and after."""

from argparse import Namespace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.queries import Weighted, combined, mark_weights
from training.base.cache import default_cache_directory
from training.data.pairs import load_data
from training.data.splits import load_split
from training.evaluation.metrics import average_precision, precision_at, rank_relevance
from training.features.paired import head_embeddings, paired_features
from training.model.bundle import load_bundle

__all__ = ["Marks", "measure_feedback", "refine"]

ROUNDS = 2
_SEEN = 10  # results that the user looks at
_USERS = {"both": (True, True), "positive only": (True, False), "negative only": (False, True)}


class Marks(NamedTuple):
    """Positions of the photos that the user has marked."""

    positive: tuple[int, ...] = ()
    negative: tuple[int, ...] = ()


def measure_feedback(options: Namespace) -> None:
    """Prints a table of the metrics before and after each round."""
    encoders = load_bundle(options.model, "cpu").encoders
    data = load_data(options.data)
    features = paired_features(data, encoders, options.cache or default_cache_directory(), torch.device("cpu"))
    f, g = head_embeddings(encoders.sketch, features.x), head_embeddings(encoders.photo, features.y)
    unseen = set(features.data.select(load_split(options.split, data.classes).unseen).sketches)
    queries = [row for row, file in enumerate(features.data.sketches) if file in unseen]
    relevance = features.relevance()[queries].toarray() > 0
    print(f"{len(queries)} sketches, {len(g)} photos\n")
    print("| marks | " + " | ".join(f"mAP@all, {n} rounds | P@10, {n} rounds" for n in range(ROUNDS + 1)) + " |")
    print("| --- |" + " --- | --- |" * (ROUNDS + 1))
    for name, (likes, dislikes) in _USERS.items():
        runs = [
            refine(f[query], g, relevant, likes, dislikes) for query, relevant in zip(queries, relevance, strict=True)
        ]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(runs, axis=0).ravel()) + " |", flush=True)


def refine(
    sketch: NDArray[np.float32], photos: NDArray[np.float32], relevant: NDArray[np.bool_], likes: bool, dislikes: bool
) -> NDArray[np.float64]:
    """Average precision and precision among ten of the rankings by one sketch, ``(ROUNDS + 1, 2)``.

    Args:
        sketch: embedding of the sketch, ``(dim,)``.
        photos: embeddings of the photos, ``(n, dim)``.
        relevant: whether each photo is of the sketch's class, ``(n,)``.
        likes: whether the user marks a photo of the class as positive in each round.
        dislikes: whether the user marks a photo of another class as negative in each round.
    """
    marks, rankings = Marks(), []
    for _ in range(ROUNDS + 1):
        rankings.append(photos @ _query(sketch, photos, marks))
        scores = rankings[-1].copy()
        scores[[*marks.positive, *marks.negative]] = -np.inf
        shown = np.argsort(-scores, kind="stable")[:_SEEN].tolist()
        last, marks = marks, _marked(marks, shown, relevant, likes, dislikes)
    left = np.ones(len(photos), np.bool_)
    left[[*last.positive, *last.negative]] = False
    ranked = rank_relevance(np.array(rankings)[:, left], np.repeat(relevant[None, left], ROUNDS + 1, axis=0))
    return np.stack([average_precision(ranked), precision_at(ranked, _SEEN)], axis=1)


def _query(sketch: NDArray[np.float32], photos: NDArray[np.float32], marks: Marks) -> NDArray[np.float32]:
    like, unlike = mark_weights(len(marks.positive), len(marks.negative))
    positive = [Weighted(photos[row], like) for row in marks.positive]
    negative = [Weighted(photos[row], unlike) for row in marks.negative]
    return combined([Weighted(sketch, 1.0), *positive, *negative])


def _marked(marks: Marks, shown: list[int], relevant: NDArray[np.bool_], likes: bool, dislikes: bool) -> Marks:
    right = [row for row in shown if relevant[row]][: int(likes)]
    wrong = [row for row in shown if not relevant[row]][: int(dislikes)]
    return Marks((*marks.positive, *right), (*marks.negative, *wrong))
