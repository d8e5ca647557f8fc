import numpy as np
import pytest

from training.data.relevance import same_label
from training.evaluation.figures import instance_accuracy, mean_average_precision
from training.evaluation.report import Searches, retrieval_report
from training.evaluation.summary import summary
from training.model.neighbours import with_neighbours


@pytest.fixture(scope="module")
def searches():
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 32))
    labels = np.arange(30) % 3
    sketches, photos = (np.float32(centres[labels] + noise * random.normal(size=(30, 32))) for noise in (3, 1))
    names = np.array(["owl", "fox", "bat"])[labels].tolist()
    own = np.where(np.arange(30) < 20, np.arange(30), -1)
    return Searches(sketches, photos, same_label(labels, labels), names, own)


def test_both_kinds_of_figure_stand_under_their_own_names(searches):
    report = retrieval_report(searches)
    f, g, relevance, _, own = searches
    assert report.map_all == pytest.approx(mean_average_precision(f, g, relevance))
    assert report.instance_accuracy == instance_accuracy(f, g, own)
    mixed = with_neighbours(g)
    assert report.with_neighbours.map_all == pytest.approx(mean_average_precision(f, mixed, relevance))
    assert report.with_neighbours.instance_accuracy == instance_accuracy(f, mixed, own)
    assert report.with_neighbours.map_all > report.map_all  # of so many photos of a kind
    assert report.gallery_curve[-1].most == pytest.approx(report.map_all, abs=1e-4)
    assert report.with_neighbours.gallery_curve[-1].most == pytest.approx(report.with_neighbours.map_all, abs=1e-4)
    assert (report.queries, report.gallery, report.classes, report.instance_queries) == (30, 30, 3, 20)


def test_figures_by_class_have_the_figure_of_all_as_their_mean(searches):
    report = retrieval_report(searches)
    assert set(report.map_by_class) == {"owl", "fox", "bat"}
    assert np.mean(list(report.map_by_class.values())) == pytest.approx(report.map_all)
    owls = [row for row, name in enumerate(searches.classes) if name == "owl"]
    alone = mean_average_precision(searches.sketches[owls], searches.photos, searches.relevance[owls])
    assert report.map_by_class["owl"] == pytest.approx(alone)


def test_the_summary_has_both_kinds_side_by_side(searches):
    report = retrieval_report(searches)
    lines = summary(report).splitlines()
    assert lines[2].split("  ")[-2:] == ["sketch by sketch", "with the gallery's neighbours"]
    [row] = [line for line in lines if line.startswith("mAP@all ")]
    assert row.split()[1:] == [f"{report.map_all:.4f}", f"{report.with_neighbours.map_all:.4f}"]
    assert row.index(row.split()[1]) == lines[2].index("sketch by sketch")
    assert not any("NOT zero-shot" in line for line in lines)
    assert "2 of 3 classes were trained on" in summary(report.model_copy(update={"trained_classes": 2}))
