"""Pictures of learned modes beside the exact ones, and plots of their errors."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.base.artifacts import atomic_write
from training.operators.evaluation import mode_values
from training.operators.objectives import Method
from training.operators.problem import Array, Picture, Problem, Reference
from training.operators.runs import Report, Solved

__all__ = ["plot_cost", "plot_errors", "plot_modes"]

_MARKERS = {Method.NESTED_LORA: "o", Method.SPIN: "s", Method.NEURAL_EF: "^"}


def plot_modes(path: Path, problem: Problem, solved: Solved, reference: Reference) -> None:
    """Draws every mode: the exact one above, the learned one below.

    Modes of one level are first rotated onto the exact ones, because any rotation of them is equally right.
    """
    columns = min(8, problem.modes)
    rows = -(-problem.modes // columns)
    figure = Figure(figsize=(1.6 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for mode in range(problem.modes):
        picture = problem.picture(mode)
        learned = mode_values(problem, solved.functions, solved.evaluation.aligned, picture.x)[:, mode]
        row, column = 2 * (mode // columns), mode % columns
        upper, lower = grid[row, column], grid[row + 1, column]
        _draw(upper, picture, picture.exact)
        _draw(lower, picture, np.where(np.isnan(picture.exact), np.nan, learned))
        upper.set_title(f"{picture.title}\n{reference.eigenvalues[mode]:.4g}", fontsize=8)
        lower.set_title(f"{solved.result.learned.eigenvalues[mode]:.4g}", fontsize=8)
    _save(figure, path)


def plot_errors(path: Path, report: Report) -> None:
    """Plots errors by mode, distances by level, and overlap; each is the median over seeds."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(3, 2, 1))
    methods = list(dict.fromkeys(run.method for run in report.runs))
    for position, method in enumerate(methods):
        runs = [run.learned for run in report.runs if run.method is method]
        errors = np.median([run.relative_errors for run in runs], axis=0)
        distances = np.median([run.subspace_distances for run in runs], axis=0)
        style = f"{_MARKERS[method]}-"
        left.plot(range(1, len(errors) + 1), errors, style, label=method)
        middle.plot(range(1, len(distances) + 1), distances, style)
        right.bar(position, float(np.median([run.overlap for run in runs])))
    left.set(xlabel="mode", ylabel="relative error", title="Eigenvalues", yscale="log")
    middle.set(xlabel="level", ylabel="sine of largest angle", title="Eigenspaces", yscale="log")
    right.set(title="Mean overlap", xticks=range(len(methods)))
    right.set_xticklabels(methods, rotation=30)
    left.legend()
    for axes in (left, middle):
        axes.grid(alpha=0.3)
    _save(figure, path)


def plot_cost(path: Path, report: Report) -> None:
    """Plots the median eigenvalue error against processor time, for networks and for LOBPCG on growing grids."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [cost.cpu_seconds for cost in report.lobpcg],
        [cost.median_error for cost in report.lobpcg],
        "x-",
        color="black",
        label="LOBPCG",
    )
    for cost in report.lobpcg:
        axes.annotate(
            f"{cost.cells}²", (cost.cpu_seconds, cost.median_error), textcoords="offset points", xytext=(4, 4)
        )
    for method in dict.fromkeys(run.method for run in report.runs):
        runs = [run for run in report.runs if run.method is method]
        axes.plot(
            [run.cpu_seconds for run in runs],
            [run.learned.median_error for run in runs],
            _MARKERS[method],
            label=method,
        )
    axes.set(xlabel="processor seconds", ylabel="median relative error", xscale="log", yscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def _draw(axes: Axes, picture: Picture, values: Array) -> None:
    if len(picture.shape) == 1:
        axes.plot(picture.x[:, 0], values)
        axes.axhline(0, color="grey", linewidth=0.5)
        return
    limit = np.nanmax(np.abs(values))
    axes.pcolormesh(
        picture.x[:, 0].reshape(picture.shape),
        picture.x[:, 1].reshape(picture.shape),
        values.reshape(picture.shape),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        rasterized=True,
    )
    axes.set_aspect("equal")


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
