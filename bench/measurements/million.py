"""Peak memory of the closed form and of an evaluation of synthetic features."""

import resource
import time
from argparse import Namespace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.data.relevance import same_label
from training.evaluation.figures import retrieval_figures
from training.fit.closed_form import feature_moments, solve_shared

__all__ = ["measure_memory"]

_ROWS = 10_000
_DIM = 99
_RIDGE = 8.0


def measure_memory(options: Namespace) -> None:
    """Prints the peak of the process and the processor time after each step."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(options.classes, options.features)).astype(np.float32)
    print("| step | peak of the process, GB | processor time, s |\n| --- | --- | --- |")
    started = time.process_time()
    labels = [np.arange(count) % options.classes for count in (options.sketches, options.photos)]
    x, y = (_features(random, centres, each) for each in labels)
    _report("features", started)
    incidence = [_incidence(each, options.classes) for each in labels]
    weights = np.full(options.classes, 1 / options.classes)
    maps = solve_shared(feature_moments(x, y, *incidence, weights), _DIM, _RIDGE)
    _report("closed form", started)
    weight = maps.weight_y.T.astype(np.float32)
    sketches, photos = x[: options.queries] @ weight, y @ weight
    figures = retrieval_figures(sketches, photos, same_label(labels[0][: options.queries], labels[1]))
    _report(f"evaluation, mAP@all {figures.map_all:.3f}", started)


def _features(
    random: np.random.Generator, centres: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float32]:
    features = np.empty((len(labels), centres.shape[1]), np.float32)
    for start in range(0, len(labels), _ROWS):
        part = labels[start : start + _ROWS]
        noise = random.standard_normal((len(part), centres.shape[1]), np.float32)
        features[start : start + _ROWS] = centres[part] + 4 * noise
    return features


def _incidence(labels: NDArray[np.int64], classes: int) -> csr_array:
    counts = np.bincount(labels, minlength=classes)
    return csr_array((1 / counts[labels], (labels, np.arange(len(labels)))), shape=(classes, len(labels)))


def _report(step: str, started: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {step} | {peak:.1f} | {time.process_time() - started:.0f} |", flush=True)
