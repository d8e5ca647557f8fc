"""The figures of an evaluation as lines of text."""

from training.evaluation.report import GalleryFigures, RetrievalReport

__all__ = ["summary"]

_KINDS = ("sketch by sketch", "with the gallery's neighbours")


def summary(report: RetrievalReport) -> str:
    """The most important figures, one a line: sketch by sketch, and beside them with the gallery's neighbours."""
    figures = [_figures(report), _figures(report.with_neighbours)]
    rows = [
        ("queries, gallery", f"{report.queries}, {report.gallery}"),
        ("instance pairs", f"{report.instance_queries:,} queries, {report.instance_rule}"),
        ("", "  ".join(_KINDS)),
        *((name, f"{value:<{len(_KINDS[0])}.4f}  {figures[1][name]:.4f}") for name, value in figures[0].items()),
    ]
    if report.trained_classes:
        rows.append(("NOT zero-shot", f"{report.trained_classes} of {report.classes} classes were trained on"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _figures(figures: GalleryFigures) -> dict[str, float]:
    return {
        "mAP@all": figures.map_all,
        "mAP@200": figures.map_200,
        "mAP, interpolated": figures.map_interpolated,
        **{f"P@{k}": value for k, value in figures.precision.items() if k in (25, 100)},
        **{f"acc@{k}": value for k, value in figures.accuracy.items() if k in (1, 10)},
        **{f"acc@{k}, exact match (instance)": value for k, value in figures.instance_accuracy.items() if k in (1, 10)},
        **{f"mAP@all, {point.dimensions} dimensions": point.most for point in figures.gallery_curve[-5:]},
    }
