"""Retrieval quality of every method on the same data, splits and seeds, by the zero-shot protocol.

    python bench/retrieval.py --data SKETCHY --out RUNS [--splits sketchy-1 sketchy-2] [--seeds 0 1 2] [--methods ...]

Trains each method on the seen classes and measures it on the unseen ones. Every run is a folder below --out; what is
finished is not done again and what was interrupted goes on, so methods and seeds can be added later. Then writes
table.md, figures.json and the plots into --out.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from training.base.artifacts import write_text
from training.base.cache import default_cache_directory
from training.data.instances import own_photos
from training.data.pairs import load_data
from training.data.splits import load_split
from training.evaluation.figures import instance_accuracy, mean_average_precision, retrieval_figures, truncation_curve
from training.features.paired import FeatureSet, head_embeddings, paired_features
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.model.bundle import load_bundle
from training.model.gallery_order import order_of_photos

FROZEN = {"tune": "none"}
CLASSES_ONLY = {"instances": 0.0, "line_drawings": 0.0}
# As in the NeuralSVD paper, scaled to 2,500 images a modality: 300 steps of 1,024 pairs, and a narrower MLP.
PAPER = CLASSES_ONLY | {
    "tune": "heads",
    "validation": 0.0,  # it has nothing to choose
    "multi_scale": False,
    "init": "random",
    "hidden": 2048,
    "share_head": False,
    "sketch_norm": "ball",
    "photo_norm": "ball",
    "mu": 16.0,
    "optimizer": "sgd",
    "learning_rate": 5e-3,
    "weight_decay": 0.0,
    "clip": 1.0,
    "average": 0.0,
    "batch_size": 1024,
    "epochs": 100,
    "dim": 256,
}
METHODS: dict[str, dict[str, object] | None] = {
    "raw cosine": None,
    "un-nested LoRA": PAPER | {"nesting": "none", "canonical": False},
    "paper's recipe": PAPER | {"canonical": False},
    "paper's recipe, multi-scale features": PAPER | {"canonical": False, "multi_scale": True},
    "closed form": FROZEN | CLASSES_ONLY | {"multi_scale": False, "share_head": False, "photo_norm": "none"},
    "ours, frozen backbone": FROZEN,
    "ours": {},
}
ABLATIONS: dict[str, dict[str, object] | None] = {
    "ours, classes alone": CLASSES_ONLY,
    "ours, no line drawings": {"line_drawings": 0.0},
    "ours, EfficientNet-Lite2": {"backbone": "tf_efficientnet_lite2"},
    "ours, no pairs of single things": {"instances": 0.0},
    "ours, 160 px throughout": {"image_size": 160},
    "ours, every stage trained": {"frozen_stages": 0},
    "ours, separate backbones": {"share_backbone": False},
    "ours, un-nested": {"nesting": "none"},
}
EVERY = METHODS | ABLATIONS
COLUMNS = {
    "map_all": "mAP@all",
    "map_200": "mAP@200",
    "precision 100": "P@100",
    "precision 25": "P@25",
    "map_interpolated": "mAP, interpolated",
    "accuracy 1": "acc@1",
    "instance 1": "acc@1, instance",
    "instance 10": "acc@10, instance",
    "eighth": "mAP with 1/8 of the dimensions",
    "eighth, gallery": "the same in the gallery's order",
}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=default_cache_directory())
    parser.add_argument("--splits", nargs="+", default=["sketchy-1", "sketchy-2"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(EVERY))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for split in arguments.splits:
            for method in arguments.methods:
                measure(arguments.data, arguments.out, arguments.cache, split, method, seed)
    report(arguments.out, arguments.data, arguments.cache)


def run_folder(out: Path, split: str, method: str, seed: int) -> Path:
    name = method.replace(",", "").replace("'", "").replace(" ", "-")
    return out / Path(split).stem / name / str(seed)


def measure(data: Path, out: Path, cache: Path, split: str, method: str, seed: int) -> None:
    """Trains one method with one seed and writes its figures."""
    folder = run_folder(out, split, method, seed)
    if (folder / "figures.json").exists():
        return
    choices = EVERY[method]
    if choices is None:
        frozen = run_folder(out, split, "closed form", seed)
        measure(data, out, cache, split, "closed form", seed)
        f, g, unseen, seconds = *raw_features(frozen, data, cache, split), 0.0
    else:
        manifest = fit(data, folder, Recipe(seed=seed, **choices), split=split, cache=cache, device=CPU)
        f, g, unseen = embeddings(folder, data, cache, split)
        seconds = manifest.training.figures["seconds"]
    figures = retrieval_figures(f, g, unseen.relevance())
    instance = instance_accuracy(f, g, own_photos(unseen.data))
    values = figures.model_dump(mode="json", exclude={"precision_min"})
    values |= {f"precision {k}": v for k, v in figures.precision.items()}
    values |= {f"accuracy {k}": v for k, v in figures.accuracy.items()}
    values |= {f"instance {k}": v for k, v in instance.items()}
    eighth, order = f.shape[1] // 8, order_of_photos(g, (g**2).mean(axis=0).tolist())
    values["eighth"] = mean_average_precision(f[:, :eighth], g[:, :eighth], unseen.relevance())
    f, g = order.apply(f), order.apply(g)
    values["eighth, gallery"] = mean_average_precision(f[:, :eighth], g[:, :eighth], unseen.relevance())
    values["gallery_curve"] = [point.model_dump() for point in truncation_curve(f, g, unseen.relevance())]
    values |= {"split": split, "method": method, "seed": seed, "seconds": seconds, "dim": f.shape[1]}
    write_text(folder / "figures.json", json.dumps(values, indent=2) + "\n")
    print(f"{split}, {method}, seed {seed}: mAP@all {figures.map_all:.4f}, {seconds:.0f} s", flush=True)


def unseen_features(folder: Path, data: Path, cache: Path, split: str) -> FeatureSet:
    everything = load_data(data)
    unseen = everything.select(load_split(split, everything.classes).unseen)
    return paired_features(unseen, load_bundle(folder, "cpu").encoders, cache, CPU)


def embeddings(
    folder: Path, data: Path, cache: Path, split: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], FeatureSet]:
    """Embeddings of the unseen sketches and photos."""
    unseen = unseen_features(folder, data, cache, split)
    encoders = load_bundle(folder, "cpu").encoders
    return head_embeddings(encoders.sketch, unseen.x), head_embeddings(encoders.photo, unseen.y), unseen


def raw_features(
    folder: Path, data: Path, cache: Path, split: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], FeatureSet]:
    """Backbone features, centred on each modality's training data, of unit length."""
    unseen = unseen_features(folder, data, cache, split)
    encoders = load_bundle(folder, "cpu").encoders
    centred = (unseen.x - encoders.sketch.head.mean.numpy(), unseen.y - encoders.photo.head.mean.numpy())
    f, g = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in centred)
    return f, g, unseen


def report(out: Path, data: Path, cache: Path) -> None:
    """Writes the table and the plots of every run below ``out``."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*/*/*/figures.json"))]
    splits = sorted({run["split"] for run in runs})
    write_text(out / "table.md", "\n".join(table([run for run in runs if run["split"] == s], s) for s in splits))
    for split in splits:
        folders = {m: run_folder(out, split, m, 0) for m in METHODS if METHODS[m] is not None}
        trained = {method: folder for method, folder in folders.items() if (folder / "figures.json").exists()}
        if trained:
            plot_curves(out / f"truncation-{Path(split).stem}.png", [run for run in runs if run["split"] == split])
            plot_modes(out / f"modes-{Path(split).stem}.png", trained, data, cache, split)
        if "ours" in trained:
            draw_sheet(out / f"sheet-{Path(split).stem}.png", trained["ours"], data, cache, split)


def table(runs: list[dict[str, float]], split: str) -> str:
    """A Markdown table, mean and standard deviation over seeds."""
    lines = [f"### {split}", "", "| method | seeds | " + " | ".join(COLUMNS.values()) + " | dimensions | seconds |"]
    lines.append("| --- " * (len(COLUMNS) + 4) + "|")
    for method in EVERY:
        chosen = [run for run in runs if run["method"] == method]
        if not chosen:
            continue
        cells = [spread([run[column] for run in chosen if column in run]) for column in COLUMNS]
        seconds = f"{mean(run['seconds'] for run in chosen):.0f}"
        lines.append(f"| {method} | {len(chosen)} | {' | '.join(cells)} | {chosen[0]['dim']} | {seconds} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def plot_curves(path: Path, runs: list[dict[str, Any]]) -> None:
    """Plots mAP with the most (line) and least (dashes) significant dimensions, mean over seeds."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in (name for name in METHODS if name != "raw cosine"):
        chosen = [run for run in runs if run["method"] == method]
        if not chosen:
            continue
        dimensions = [point["dimensions"] for point in chosen[0]["curve"]]
        (line,) = axes.plot(dimensions, mean_curve(chosen, "curve", "most"), "o-", label=method, markersize=3)
        axes.plot(dimensions, mean_curve(chosen, "curve", "least"), "--", color=line.get_color(), linewidth=1)
        if method == "ours":
            ordered = mean_curve(chosen, "gallery_curve", "most")
            axes.plot(dimensions, ordered, "^-", color="black", label="ours, in the gallery's order", markersize=4)
            axes.plot(dimensions, mean_curve(chosen, "gallery_curve", "least"), ":", color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="dimensions kept: most significant (line), least significant (dashes)", ylabel="mAP@all")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def mean_curve(runs: list[dict[str, Any]], curve: str, end: str) -> NDArray[np.float64]:
    return np.mean([[point[end] for point in run[curve]] for run in runs], axis=0)


def plot_modes(path: Path, folders: dict[str, Path], data: Path, cache: Path, split: str) -> None:
    """Spectrum, and how far second moments on unseen classes are from diagonal."""
    figure = Figure(figsize=(4 * len(folders), 7), layout="constrained")
    axes = figure.subplots(2, len(folders), squeeze=False)
    for column, (method, folder) in enumerate(folders.items()):
        f, _, _ = embeddings(folder, data, cache, split)
        f = f - f.mean(axis=0)
        moment = f.T @ f / len(f)
        scale = np.sqrt(np.maximum(np.diag(moment), 1e-12))
        axes[0, column].plot(load_bundle(folder, "cpu").spectrum)
        axes[0, column].set(title=method, xlabel="mode", ylabel="singular value", ylim=(0, None))
        axes[1, column].imshow(np.abs(moment / scale / scale[:, None]), vmin=0, vmax=1, cmap="magma")
        axes[1, column].set(title="|correlation| of sketch modes, unseen", xticks=[], yticks=[])
    figure.savefig(path, dpi=60)


def draw_sheet(path: Path, folder: Path, data: Path, cache: Path, split: str, rows: int = 12, side: int = 96) -> None:
    """Sketches at the left, their first ten photos beside them; a green bar marks the right class."""
    f, g, unseen = embeddings(folder, data, cache, split)
    relevance = unseen.relevance().toarray() > 0
    sheet = Image.new("RGB", (11 * (side + 4), rows * (side + 8)), "white")
    for row, query in enumerate(np.linspace(0, len(f) - 1, rows).astype(int)):
        best = np.argsort(-(g @ f[query]), kind="stable")[:10]
        files = [unseen.data.sketches[query], *(unseen.data.photos[photo] for photo in best)]
        for column, file in enumerate(files):
            corner = (column * (side + 4), row * (side + 8))
            with Image.open(file) as image:
                sheet.paste(image.convert("RGB").resize((side, side)), corner)
            if column:
                colour = "green" if relevance[query, best[column - 1]] else "firebrick"
                sheet.paste(Image.new("RGB", (side, 4), colour), (corner[0], corner[1] + side))
    sheet.save(path)


if __name__ == "__main__":
    main()
