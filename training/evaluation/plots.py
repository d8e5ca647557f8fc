"""Plots of an evaluation: the truncation curve and the spectrum."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from training.base.artifacts import atomic_write
from training.evaluation.figures import CurvePoint

__all__ = ["plot_evaluation"]


def plot_evaluation(
    path: Path, curve: Sequence[CurvePoint], gallery_curve: Sequence[CurvePoint], spectrum: Sequence[float] | None
) -> None:
    """Draws the truncation curve beside the spectrum into a PNG.

    Args:
        path: file to write.
        curve: mAP by number of dimensions, in the order of the model.
        gallery_curve: mAP by number of dimensions, in the order of the gallery.
        spectrum: singular values, descending; None draws the curve alone.
    """
    figure = Figure(figsize=(10 if spectrum else 5, 4), layout="constrained")
    left, *others = figure.subplots(1, 2 if spectrum else 1, squeeze=False)[0]
    dimensions = [point.dimensions for point in curve]
    for points, order, colour in ((gallery_curve, "gallery", "C1"), (curve, "model", "C0")):
        left.plot(
            dimensions, [point.most for point in points], "o-", color=colour, label=f"most significant, {order}'s order"
        )
        left.plot(dimensions, [point.least for point in points], "s--", color=colour, label="least significant")
    left.set_xscale("log", base=2)
    left.set(xlabel="dimensions kept", ylabel="mAP@all", title="Truncation", ylim=(0, None))
    left.legend()
    for right in others:
        right.plot(range(1, len(spectrum or []) + 1), spectrum)
        right.set(xlabel="mode", ylabel="singular value", title="Spectrum", ylim=(0, None))
    for axes in (left, *others):
        axes.grid(alpha=0.3)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
