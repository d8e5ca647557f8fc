import numpy as np
import pytest

from index.accelerators.candidates import candidates
from index.accelerators.clustering import assign, block_norms, describe
from index.accelerators.ivf import ClusteredIndex
from tests.index.conftest import decaying


@pytest.mark.parametrize(("count", "dim", "clusters"), [(1, 3, 1), (50, 20, 7), (3000, 40, 60), (3000, 100, 200)])
def test_clusters_are_as_many_as_asked_at_most_and_never_empty(count, dim, clusters):
    numbers = assign(decaying(count, dim), clusters)
    sizes = np.bincount(numbers)
    assert len(numbers) == count
    assert len(sizes) <= clusters
    assert sizes.min() > 0
    assert len(sizes) > clusters / 2


def test_equal_vectors_lie_in_the_same_cluster():
    numbers = assign(np.repeat(decaying(30, 70), 40, axis=0), 25).reshape(30, 40)
    assert (numbers == numbers[:, :1]).all()


def test_clusters_hold_what_is_near():
    centres = 10 * decaying(12, 30)
    vectors = np.repeat(centres, 100, axis=0) + 0.1 * decaying(1200, 30, 1)
    found, facts = describe(vectors, assign(vectors, 12))
    spread = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).mean()
    assert np.median(facts.radius) < spread / 5
    assert len(found) <= 12


@pytest.mark.parametrize("dim", [5, 64, 100])
def test_centres_are_means_and_no_vector_passes_the_radii(dim):
    vectors = decaying(2000, dim)
    numbers = assign(vectors, 30)
    centres, facts = describe(vectors, numbers)
    for number, centre in enumerate(centres):
        members = vectors[numbers == number]
        np.testing.assert_allclose(centre, members.mean(axis=0), atol=1e-5)
        norms = block_norms(members - centre)
        np.testing.assert_allclose(facts.radii[number], norms.max(axis=0), rtol=1e-4)
        np.testing.assert_allclose(facts.radius[number], np.linalg.norm(norms, axis=1).max(), rtol=1e-4)
    assert facts.longest == pytest.approx(np.linalg.norm(vectors, axis=1).max(), rel=1e-5)


@pytest.mark.parametrize("kind", ["ivf", "fp16"])
def test_more_effort_finds_more_and_all_of_it_everything(kind):
    vectors, queries = decaying(6000, 96), decaying(40, 96, 1)
    truth = np.sort(queries @ vectors.T, axis=1)[:, :-11:-1]
    found = ClusteredIndex.build(kind, vectors)
    recalls = []
    for effort in (1, found.largest_effort // 4, found.largest_effort):
        positions = found.search(queries, 10, 96, effort=effort)[1]
        scores = np.where(positions < 0, -np.inf, np.take_along_axis(queries @ vectors.T, positions, 1))
        recalls.append((scores >= truth[:, -1:] - 1e-3).mean())
    assert recalls[0] < recalls[1] <= recalls[2] == 1
    assert recalls[1] > 0.9


def test_as_many_as_wanted_are_found_however_small_the_clusters():
    vectors = decaying(6000, 96)
    found = ClusteredIndex.build("ivf", vectors)
    positions = candidates(found, decaying(5, 96, 1), 500, 96, reachable=6000, effort=1)
    assert (positions[:, :500] >= 0).all()
    assert all(len(set(row[:500])) == 500 for row in positions.tolist())


def test_no_vector_is_far_from_its_code():
    vectors = decaying(3000, 40)
    vectors[7] *= 50
    found = ClusteredIndex.build("sq8", vectors)
    lowest, highest = vectors.min(axis=0), vectors.max(axis=0)
    assert found.error <= np.linalg.norm((highest - lowest) / 255)
