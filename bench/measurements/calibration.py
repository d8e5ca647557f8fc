"""Measures the calibration of a model on classes that it has not seen."""

from argparse import Namespace
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from measurements.command import BenchmarkError
from training.base.artifacts import atomic_write
from training.base.cache import default_cache_directory
from training.data.pairs import load_data
from training.evaluation.calibration import Found, calibration_error, found_by_sketches, reliability
from training.evaluation.protocol import query_classes
from training.features.paired import paired_features
from training.model.bundle import load_bundle
from training.model.calibration import Calibration

__all__ = ["measure_calibration"]


def measure_calibration(options: Namespace) -> None:
    """Prints a table with the calibration error by number of dimensions, and by size of gallery."""
    bundle = load_bundle(options.model, "cpu")
    calibration = bundle.manifest.calibration
    if calibration is None:
        raise BenchmarkError(f"{options.model} has no calibration; make one with `svdraw calibrate`")
    data = load_data(options.data)
    classes = set(query_classes(bundle, data, options.split)) - set(bundle.manifest.training.classes)
    features = paired_features(data, bundle.encoders, options.cache or default_cache_directory(), torch.device("cpu"))
    grid = [each.dimensions for each in calibration.coefficients]
    found = found_by_sketches(features, bundle.encoders, bundle.spectrum, classes, grid)
    print(f"{len(classes)} classes; relevance fitted on {calibration.classes} others\n")
    print(
        "| dimensions | photos | error | error of one relevance for all | mean, right results | mean, wrong results |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for dimensions, results in found.items():
        _print_rows(calibration, dimensions, results)
    if options.plot:
        _plot(options.plot, {number: (r.relevance(calibration, number), r.relevant) for number, r in found.items()})


def _print_rows(calibration: Calibration, dimensions: int, found: Found) -> None:
    relevance = found.relevance(calibration, dimensions)
    everything = np.ones(len(relevance), np.bool_)
    for name, rows in {"all sizes": everything, **_sizes(found)}.items():
        right = found.relevant[rows]
        values = relevance[rows]
        constant = np.full(len(values), found.relevant.mean())
        print(
            f"| {dimensions} | {name} | {calibration_error(values, right):.3f} | "
            f"{calibration_error(constant, right):.3f} | {values[right].mean():.3f} | {values[~right].mean():.3f} |"
        )


def _sizes(found: Found) -> dict[str, NDArray[np.bool_]]:
    """The results by the size of the gallery, in four parts."""
    edges = np.quantile(found.photos, [0, 0.25, 0.5, 0.75, 1])
    return {f"{low:.0f} to {high:.0f}": (found.photos >= low) & (found.photos <= high) for low, high in pairwise(edges)}


def _plot(path: Path, curves: Mapping[int, tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> None:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="grey", label="perfect")
    for number, (relevance, relevant) in curves.items():
        predicted, actual, _ = reliability(relevance, relevant).T
        axes.plot(
            predicted, actual, "o-", label=f"{number} dimensions, error {calibration_error(relevance, relevant):.3f}"
        )
    axes.set(xlabel="relevance", ylabel="share of right results", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
