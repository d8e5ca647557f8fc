from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData
from training.evaluation.figures import mean_average_precision
from training.features.paired import FeatureSet
from training.fit import selection
from training.fit.selection import choose_dimensions, climb, held_out_score
from training.model.heads import Head, HeadConfig


@pytest.fixture
def encoders():
    head = Head(HeadConfig(features=2, dim=2), body=torch.nn.Identity())
    return SimpleNamespace(sketch=SimpleNamespace(head=head), photo=SimpleNamespace(head=head))


def features(sketch_names):
    groups = (Group("owl", (0,), (0, 1)), Group("fox", (1,), (2,)))
    photos = tuple(Path(name) for name in ("owl1.jpg", "owl2.jpg", "fox1.jpg"))
    pairs = {Path(name): Path(name.replace("-1.png", ".jpg")) for name in sketch_names if "-1" in name}
    data = PairedData(tuple(Path(name) for name in sketch_names), photos, groups, InstancePairs(pairs))
    x, y = np.array([[1, 0], [0, 1]], np.float32), np.array([[0.5, 0], [1, 0], [0.75, 0]], np.float32)
    return FeatureSet(data, x, y)


def test_score_is_the_geometric_mean_over_classes_and_instances_among_all_and_among_held_out_photos(encoders):
    owls, instance, owls_alone, instance_alone = (1 + 2 / 3) / 2, 1 / 3, 1, 1 / 2
    expected = (owls * instance * owls_alone * instance_alone) ** (1 / 4)
    assert held_out_score(features(("owl1-1.png", "fox1-1.png")), encoders, {"owl"}) == pytest.approx(expected)


def test_score_without_instance_pairs_is_of_classes_alone(encoders):
    score = held_out_score(features(("first.png", "second.png")), encoders, {"owl"})
    assert score == pytest.approx(((1 + 2 / 3) / 2) ** (1 / 2))


def test_one_dimension_serves_best_and_suffices_where_the_other_is_empty(encoders):
    chosen = choose_dimensions(features(("owl1-1.png", "fox1-1.png")), encoders, [1.0, 1e-3], {"owl"})
    assert chosen.sufficient == 1
    assert chosen.best == 2  # the fewest that are tried


def test_rows_of_a_table_count_as_the_classes_that_they_name(encoders):
    folders = features(("owl1-1.png", "owl2-1.png", "fox1-1.png"))
    folders = replace(folders, x=np.array([[1, 0], [2, 1], [0, 1]], np.float32))
    classes = (Group("owl", (0, 1), (0, 1)), Group("fox", (2,), (2,)))
    rows = (Group("owl", (0,), (0,)), Group("owl", (1,), (1,)), Group("fox", (2,), (2,)))
    by_class, by_row = (replace(folders, data=replace(folders.data, groups=groups)) for groups in (classes, rows))
    assert held_out_score(by_row, encoders, {"owl"}) == pytest.approx(held_out_score(by_class, encoders, {"owl"}))


@pytest.mark.parametrize("peak", range(6))
def test_climbing_finds_the_peak_and_tries_no_value_twice(peak):
    values, tried = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0), []

    def score(value):
        tried.append(value)
        return -abs(values.index(value) - peak)

    assert climb(score, values) == values[peak]
    assert len(set(tried)) == len(tried) <= 5


def test_climbing_has_a_single_value_scored_too():
    tried = []
    assert climb(lambda value: tried.append(value) or 0.5, (4.0,)) == 4.0
    assert tried == [4.0]


def test_a_search_has_so_many_sketches_at_most(encoders, monkeypatch):
    """What a choice takes would otherwise grow with the number of sketches times that of photos."""
    few = features(("owl1-1.png", "fox1-1.png"))
    many = (*((1, 0),) * 20, (0, 1))
    sketches = tuple(Path(f"{number}.png") for number in range(len(many)))
    groups = (Group("owl", tuple(range(20)), (0, 1)), Group("fox", (20,), (2,)))
    data = PairedData(sketches, few.data.photos, groups, InstancePairs({}))
    whole = FeatureSet(data, np.array(many, np.float32), few.y)
    expected, searched = held_out_score(whole, encoders, {"owl"}), []

    def average(sketches, photos, relevance):
        searched.append(len(sketches))
        return mean_average_precision(sketches, photos, relevance)

    monkeypatch.setattr(selection, "mean_average_precision", average)
    monkeypatch.setattr(selection, "_SKETCHES", 3)
    assert held_out_score(whole, encoders, {"owl"}) == pytest.approx(expected)
    assert searched == [3, 3]
