"""The table and the plots of all runs of a retrieval benchmark."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from measurements.methods import EVERY, METHODS
from measurements.runs import Runs
from training.base.artifacts import write_text
from training.model.manifest import read_manifest

__all__ = ["write_report"]

COLUMNS = {
    "map_all": "mAP@all",
    "neighbours": "mAP@all, with the gallery's neighbours",
    "map_200": "mAP@200",
    "precision 100": "P@100",
    "precision 25": "P@25",
    "map_interpolated": "mAP, interpolated",
    "accuracy 1": "acc@1",
    "instance 1": "acc@1, instance",
    "instance 10": "acc@10, instance",
    "eighth": "mAP, 1/8 of the dimensions, model's order",
    "eighth, gallery": "mAP, 1/8 of the dimensions, gallery's order",
}


def write_report(runs: Runs) -> None:
    """Writes the table and the plots of all runs that exist."""
    figures = [json.loads(path.read_text()) for path in sorted(runs.out.glob("*/*/*/figures.json"))]
    splits = sorted({row["split"] for row in figures})
    write_text(runs.out / "table.md", "\n".join(_table([r for r in figures if r["split"] == s], s) for s in splits))
    for split in splits:
        folders = {m: runs.folder(split, m, 0) for m in METHODS if METHODS[m] is not None}
        trained = {method: folder for method, folder in folders.items() if (folder / "figures.json").exists()}
        name = Path(split).stem
        if trained:
            _plot_curves(runs.out / f"truncation-{name}.png", [row for row in figures if row["split"] == split])
            _plot_modes(runs.out / f"modes-{name}.png", runs, trained, split)
        if "ours" in trained:
            _draw_sheet(runs.out / f"sheet-{name}.png", runs, trained["ours"], split)


def _table(runs: list[dict[str, float]], split: str) -> str:
    """A Markdown table with mean and standard deviation over seeds."""
    lines = [f"### {split}", "", "| method | seeds | " + " | ".join(COLUMNS.values()) + " | dimensions | seconds |"]
    lines.append("| --- " * (len(COLUMNS) + 4) + "|")
    for method in EVERY:
        chosen = [run for run in runs if run["method"] == method]
        if not chosen:
            continue
        cells = [_spread([run[column] for run in chosen if column in run]) for column in COLUMNS]
        seconds = f"{mean(run['seconds'] for run in chosen):.0f}"
        lines.append(f"| {method} | {len(chosen)} | {' | '.join(cells)} | {chosen[0]['dim']} | {seconds} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _plot_curves(path: Path, runs: list[dict[str, Any]]) -> None:
    """Plots mAP with the most (line) and the least (dashes) significant dimensions, averaged over seeds."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in (name for name in METHODS if name != "raw cosine"):
        chosen = [run for run in runs if run["method"] == method]
        if not chosen:
            continue
        dimensions = [point["dimensions"] for point in chosen[0]["curve"]]
        (line,) = axes.plot(dimensions, _mean_curve(chosen, "curve", "most"), "o-", label=method, markersize=3)
        axes.plot(dimensions, _mean_curve(chosen, "curve", "least"), "--", color=line.get_color(), linewidth=1)
        if method == "ours":
            ordered = _mean_curve(chosen, "gallery_curve", "most")
            axes.plot(dimensions, ordered, "^-", color="black", label="ours, in the gallery's order", markersize=4)
            axes.plot(dimensions, _mean_curve(chosen, "gallery_curve", "least"), ":", color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="dimensions kept: most significant (line), least significant (dashes)", ylabel="mAP@all")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _mean_curve(runs: list[dict[str, Any]], curve: str, end: str) -> NDArray[np.float64]:
    return np.mean([[point[end] for point in run[curve]] for run in runs], axis=0)


def _plot_modes(path: Path, runs: Runs, folders: dict[str, Path], split: str) -> None:
    """Plots the spectrum, and how far the second moments on unseen classes are from diagonal."""
    figure = Figure(figsize=(4 * len(folders), 7), layout="constrained")
    axes = figure.subplots(2, len(folders), squeeze=False)
    for column, (method, folder) in enumerate(folders.items()):
        f = runs.embedded(folder, split).f
        f = f - f.mean(axis=0)
        moment = f.T @ f / len(f)
        scale = np.sqrt(np.maximum(np.diag(moment), 1e-12))
        axes[0, column].plot(read_manifest(folder).spectrum)
        axes[0, column].set(title=method, xlabel="mode", ylabel="singular value", ylim=(0, None))
        axes[1, column].imshow(np.abs(moment / scale / scale[:, None]), vmin=0, vmax=1, cmap="magma")
        axes[1, column].set(title="|correlation| of sketch modes, unseen", xticks=[], yticks=[])
    figure.savefig(path, dpi=60)


def _draw_sheet(path: Path, runs: Runs, folder: Path, split: str, rows: int = 12, side: int = 96) -> None:
    """Draws sketches at the left, with their first ten photos beside them; a green bar marks the right class."""
    f, g, unseen, _ = runs.embedded(folder, split)
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
