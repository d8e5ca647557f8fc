import numpy as np
import pytest

from training.model.neighbours import directions, nearest, with_neighbours


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
        weights = strength / count * np.maximum(cosines[chosen], 0)
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
    assert np.isfinite(with_neighbours(embeddings, 10)).all()


def test_equal_photos_stay_as_they_are():
    embeddings = np.repeat(decaying(1, 8), 20, axis=0)
    np.testing.assert_allclose(with_neighbours(embeddings), embeddings, atol=1e-6)


def test_a_photo_like_no_other_stays_as_it_is():
    embeddings = np.concatenate([np.tile([1.0, 0.1, 0], (30, 1)), [[-30, 0, 0]]]).astype(np.float32)
    np.testing.assert_allclose(with_neighbours(embeddings, 5)[-1], embeddings[-1], atol=1e-4)


def test_photos_of_a_kind_are_found_better():
    """Sketches and photos are their class's direction and noise."""
    random = np.random.default_rng(0)
    classes, labels = random.normal(size=(10, 32)), np.repeat(np.arange(10), 20)
    photos = (classes[labels] + random.normal(size=(200, 32))).astype(np.float32)
    sketches = classes[labels] + 2 * random.normal(size=(200, 32))

    def found(vectors):
        best = np.argsort(-(sketches @ vectors.T), axis=1)[:, :20]
        return np.mean(labels[best] == labels[:, None])

    assert found(with_neighbours(photos)) > found(photos) + 0.03
