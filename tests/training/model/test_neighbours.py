import numpy as np
import pytest

from training.model import neighbours
from training.model.nearest import directions, nearest
from training.model.neighbours import STRENGTH, gallery_strength, separation, with_neighbours


def decaying(count, dim, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, dim)) / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)


def by_the_formula(embeddings, count, strength):
    mean = embeddings.mean(axis=0)
    mixed = []
    for row, own in enumerate(embeddings):
        cosines = np.array(
            [
                (own - mean) @ (other - mean) / np.linalg.norm(own - mean) / np.linalg.norm(other - mean)
                for other in embeddings
            ]
        )
        cosines[row] = -np.inf
        chosen = np.argsort(-cosines)[:count]
        weights = strength / count * np.maximum(cosines[chosen], 0) ** 2
        mixed.append((own + weights @ embeddings[chosen]) / (1 + weights.sum()))
    return np.array(mixed)


@pytest.mark.parametrize(("count", "strength"), [(1, 1.0), (5, 2.0), (10, 2.0)])
def test_it_is_the_weighted_mean_of_the_formula(count, strength):
    embeddings = decaying(60, 8)
    np.testing.assert_allclose(
        with_neighbours(embeddings, count, strength), by_the_formula(embeddings, count, strength), atol=1e-5
    )


def test_blocks_make_no_difference():
    embeddings = decaying(2500, 8)
    units = directions(embeddings, embeddings.mean(axis=0))
    together = np.concatenate([nearest(units, slice(start, start + 700), 5) for start in range(0, 2500, 700)])
    cosines = np.take_along_axis(units @ units.T - 2 * np.eye(2500, dtype=np.float32), together, axis=1)
    np.testing.assert_allclose(
        np.sort(cosines, axis=1), np.sort(units @ units.T - 2 * np.eye(2500), axis=1)[:, -5:], atol=1e-5
    )
    assert not (together == np.arange(2500)[:, None]).any()  # no photo is its own neighbour


def test_none_and_too_few_neighbours():
    embeddings = decaying(4, 8)
    assert with_neighbours(embeddings, 0) is embeddings
    assert with_neighbours(embeddings[:1], 10).tolist() == embeddings[:1].tolist()
    assert with_neighbours(embeddings[:0], 10).shape == (0, 8)
    for photos in (2, 3, 4):
        assert np.isfinite(with_neighbours(embeddings[:photos], 10)).all()


@pytest.mark.parametrize("strength", [None, 2.0])
def test_equal_photos_stay_as_they_are(strength):
    embeddings = np.repeat(decaying(1, 8), 20, axis=0)
    np.testing.assert_allclose(with_neighbours(embeddings, strength=strength), embeddings, atol=1e-6)


def test_a_photo_like_no_other_stays_as_it_is():
    embeddings = np.concatenate([np.tile([1.0, 0.1, 0], (30, 1)), [[-30, 0, 0]]]).astype(np.float32)
    np.testing.assert_allclose(with_neighbours(embeddings, 5, 2.0)[-1], embeddings[-1], atol=1e-4)


def of_kinds(kinds, each, seed=0):
    """Photos that are the direction of their kind and noise, and the kind of each."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(kinds), each)
    return (random.normal(size=(kinds, 32))[labels] + random.normal(size=(len(labels), 32))).astype(np.float32), labels


def on_a_line(count):
    """Photos each of which lies between its neighbours."""
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([f(n * turns) for n in (1, 2, 3) for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def test_the_separation_is_the_median_ratio_of_mean_squared_distances():
    embeddings = decaying(40, 8)
    units, ratios = directions(embeddings, embeddings.mean(axis=0)), []
    for unit in units:
        chosen = units[np.argsort(-(units @ unit))[1:6]]
        among = [np.sum((a - b) ** 2) for i, a in enumerate(chosen) for b in chosen[:i]]
        ratios.append(np.mean(among) / np.mean(np.sum((chosen - unit) ** 2, axis=1)))
    assert separation(embeddings) == pytest.approx(np.median(ratios), rel=1e-3)


def test_neighbours_of_one_kind_count_in_full():
    embeddings, _ = of_kinds(10, 20)
    assert gallery_strength(embeddings) == STRENGTH
    np.testing.assert_array_equal(with_neighbours(embeddings), with_neighbours(embeddings, strength=STRENGTH))


def test_neighbours_that_are_far_from_each_other_do_not_count():
    embeddings = on_a_line(300)
    assert separation(embeddings) > 2
    assert with_neighbours(embeddings) is embeddings


def test_a_large_gallery_is_judged_by_a_sample(monkeypatch):
    kinds, _ = of_kinds(10, 60)
    whole = separation(kinds)
    monkeypatch.setattr(neighbours, "_QUERIES", 200)
    assert separation(kinds) == pytest.approx(whole, rel=0.05)
    monkeypatch.setattr(neighbours, "_SAMPLE", 300)
    assert separation(kinds) == pytest.approx(whole, rel=0.1)


def test_in_between_the_strength_falls_evenly(monkeypatch):
    strengths = []
    for value in (1.0, 1.175, 1.1875, 1.2, 2.0):
        monkeypatch.setattr(neighbours, "separation", lambda _, value=value: value)
        strengths.append(gallery_strength(decaying(3, 8)))
    assert strengths == pytest.approx([STRENGTH, STRENGTH, STRENGTH / 2, 0, 0])


def test_photos_of_a_kind_are_found_better():
    """Sketches and photos are their class's direction and noise."""
    photos, labels = of_kinds(10, 20)
    classes = np.random.default_rng(0).normal(size=(10, 32))
    sketches = classes[labels] + 2 * np.random.default_rng(1).normal(size=(200, 32))

    def found(vectors):
        best = np.argsort(-(sketches @ vectors.T), axis=1)[:, :20]
        return np.mean(labels[best] == labels[:, None])

    assert found(with_neighbours(photos)) > found(photos) + 0.03
