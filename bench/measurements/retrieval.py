"""Trains the methods and measures them on unseen classes, run by run."""

import json
from argparse import Namespace
from typing import Any

from measurements.methods import EVERY
from measurements.retrieval_report import write_report
from measurements.runs import CPU, Embedded, Runs
from training.base.artifacts import write_text
from training.base.cache import default_cache_directory
from training.data.instances import own_photos
from training.data.pairs import load_data
from training.data.splits import load_split
from training.evaluation.figures import instance_accuracy, mean_average_precision, retrieval_figures, truncation_curve
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.model.gallery_order import order_of_photos
from training.model.neighbours import with_neighbours

__all__ = ["measure_methods"]


def measure_methods(options: Namespace) -> None:
    """Trains and measures the runs that are missing, then writes the report."""
    classes = load_data(options.data).classes
    for split in options.splits:
        load_split(split, classes)  # reports a wrong split before anything is trained
    runs = Runs(options.data, options.out, options.cache or default_cache_directory())
    for seed in options.seeds:
        for split in options.splits:
            for method in options.methods:
                _measure(runs, split, method, seed)
    write_report(runs)


def _measure(runs: Runs, split: str, method: str, seed: int) -> None:
    """Trains one method with one seed and writes its figures."""
    folder = runs.folder(split, method, seed)
    if (folder / "figures.json").exists():
        return
    choices = EVERY[method]
    if choices is None:
        _measure(runs, split, "closed form", seed)
        embedded, seconds = runs.raw(runs.folder(split, "closed form", seed), split), 0.0
    else:
        recipe = Recipe(seed=seed, **choices)
        manifest = fit(runs.data, folder, recipe, split=split, cache=runs.cache, device=CPU)
        embedded, seconds = runs.embedded(folder, split), manifest.training.figures["seconds"]
    values = _figures(embedded)
    values |= {"split": split, "method": method, "seed": seed, "seconds": seconds, "dim": embedded.f.shape[1]}
    write_text(folder / "figures.json", json.dumps(values, indent=2) + "\n")
    print(f"{split}, {method}, seed {seed}: mAP@all {values['map_all']:.4f}, {seconds:.0f} s", flush=True)


def _figures(embedded: Embedded) -> dict[str, Any]:
    f, g, unseen, spectrum = embedded
    figures = retrieval_figures(f, g, unseen.relevance())
    values = figures.model_dump(mode="json", exclude={"precision_min"})
    values |= {f"precision {k}": v for k, v in figures.precision.items()}
    values |= {f"accuracy {k}": v for k, v in figures.accuracy.items()}
    values |= {f"instance {k}": v for k, v in instance_accuracy(f, g, own_photos(unseen.data)).items()}
    values["neighbours"] = mean_average_precision(f, with_neighbours(g), unseen.relevance())
    eighth = f.shape[1] // 8
    values["eighth"] = mean_average_precision(f[:, :eighth], g[:, :eighth], unseen.relevance())
    order = order_of_photos(g, spectrum or (g**2).mean(axis=0).tolist())
    f, g = order.sketches(f), order.photos(g)
    values["eighth, gallery"] = mean_average_precision(f[:, :eighth], g[:, :eighth], unseen.relevance())
    values["gallery_curve"] = [point.model_dump() for point in truncation_curve(f, g, unseen.relevance())]
    return values
