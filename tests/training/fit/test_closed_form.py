from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from training.base import row_blocks
from training.fit.closed_form import feature_moments, solve, solve_shared


def one_hot_problem(seed=0):
    """Features that are indicators of 4 x 5 states, so that the linear optimum is the operator's own SVD."""
    random = np.random.default_rng(seed)
    joint = random.dirichlet(np.ones(20)).reshape(4, 5)
    rows, columns = np.indices(joint.shape).reshape(2, -1)
    identity = csr_array(np.eye(20))
    x, y = np.eye(4, dtype=np.float32)[rows], np.eye(5, dtype=np.float32)[columns]
    return joint, feature_moments(x, y, identity, identity, joint.ravel())


def test_indicators_give_the_operators_svd():
    joint, moments = one_hot_problem()
    p_x, p_y = joint.sum(1), joint.sum(0)
    expected = np.linalg.svd(joint / np.sqrt(np.outer(p_x, p_y)), compute_uv=False)[1:]
    maps = solve(moments, 3, 1e-9)
    np.testing.assert_allclose(maps.spectrum, expected[:3], rtol=1e-4)
    f = (np.eye(4) - moments.mean_x) @ maps.weight_x.T
    g = (np.eye(5) - moments.mean_y) @ maps.weight_y.T
    np.testing.assert_allclose(f @ g.T, joint / np.outer(p_x, p_y) - 1, atol=1e-3)


def test_a_ridge_shrinks_the_spectrum():
    _, moments = one_hot_problem()
    assert (solve(moments, 3, 1.0).spectrum < solve(moments, 3, 0.01).spectrum).all()


def test_rank_is_limited_by_the_groups():
    random = np.random.default_rng(0)
    incidence = csr_array(np.kron(np.eye(3), np.full(4, 1 / 4)))
    x, y = (random.normal(size=(12, 10)).astype(np.float32) for _ in range(2))
    moments = feature_moments(x, y, incidence, incidence, np.full(3, 1 / 3))
    assert len(solve(moments, 8, 1.0).spectrum) == 2
    shared = solve_shared(moments, 8, 1.0)
    assert len(shared.spectrum) <= 2
    np.testing.assert_array_equal(shared.weight_x, shared.weight_y)


def test_shared_map_equals_separate_maps_for_identical_modalities():
    random = np.random.default_rng(0)
    incidence = csr_array(np.kron(np.eye(6), np.full(4, 1 / 4)))
    x = random.normal(size=(24, 5)).astype(np.float32)
    moments = feature_moments(x, x, incidence, incidence, np.full(6, 1 / 6))
    shared, separate = solve_shared(moments, 5, 0.5), solve(moments, 5, 0.5)
    np.testing.assert_allclose(shared.spectrum, separate.spectrum, rtol=1e-6)
    products = [maps.weight_x.T @ maps.weight_y for maps in (shared, separate)]
    np.testing.assert_allclose(*products, atol=1e-8)


def test_covariances_are_centred_whichever_side_is_smaller():
    random = np.random.default_rng(0)
    for features in (4, 60):
        x = random.normal(size=(24, features)).astype(np.float32) + 5
        identity = csr_array(np.eye(24))
        moments = feature_moments(x, x, identity, identity, np.full(24, 1 / 24))
        pairs = moments.x.eigenpairs
        rebuilt = (pairs.vectors * pairs.values) @ pairs.vectors.T
        np.testing.assert_allclose(rebuilt, np.cov(x.T, bias=True), atol=1e-5)


@pytest.mark.parametrize(("count", "width"), [(40, 6), (5, 12)])
def test_moments_by_blocks_are_those_of_all_images_at_once(count, width, monkeypatch):
    monkeypatch.setattr(row_blocks, "_ROWS", 7)
    values = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    labels, weights = np.arange(count) % 3, np.array([0.2, 0.3, 0.5])
    incidence = csr_array((1 / np.bincount(labels)[labels], (labels, np.arange(count))), shape=(3, count))
    moments = feature_moments(values, values, incidence, incidence, weights)
    probabilities = weights @ incidence
    centred = values - probabilities @ values.astype(np.float64)
    pairs = moments.x.eigenpairs
    covariance = pairs.vectors * pairs.values @ pairs.vectors.T
    np.testing.assert_allclose(covariance, (centred * probabilities[:, None]).T @ centred, atol=1e-12)
    np.testing.assert_allclose(moments.cross_x, np.sqrt(weights)[:, None] * (incidence @ centred), atol=1e-12)
    np.testing.assert_allclose(moments.mean_x, probabilities @ values, rtol=1e-5)


@pytest.mark.parametrize("counts", [(40, 40), (5, 40), (5, 6), (7, 8)], ids=str)
def test_the_pooled_covariance_is_the_mean_of_both(counts):
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(count, 12)).astype(np.float32) for count in counts)
    incidences = [csr_array(np.full((1, count), 1 / count)) for count in counts]
    pooled = feature_moments(x, y, *incidences, np.ones(1)).pooled
    mean = (np.cov(x.T, bias=True) + np.cov(y.T, bias=True)) / 2
    np.testing.assert_allclose((pooled.vectors * pooled.values) @ pooled.vectors.T, mean, atol=1e-6)


@pytest.mark.parametrize("solver", [solve, solve_shared])
def test_more_groups_than_features_give_the_same_maps(solver, monkeypatch):
    """Every image is a group of its own besides its class: the cross-covariance is then held as one matrix."""
    monkeypatch.setattr(row_blocks, "_ROWS", 7)
    monkeypatch.setattr("training.fit.closed_form._GROUPS", 5)
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(30, width)).astype(np.float32) for width in (6, 6))
    classes = np.arange(30)[None] % 3 == np.arange(3)[:, None]
    incidence = csr_array(np.vstack([classes / 10, np.eye(30)]))
    weights = np.concatenate([np.full(3, 0.2), np.full(30, 0.4 / 30)])
    moments = feature_moments(x, y, incidence, incidence, weights)
    means = [incidence @ each - (weights @ incidence) @ each for each in (x, y)]
    factors = [np.sqrt(weights)[:, None] * each for each in means]
    np.testing.assert_allclose(moments.cross_x.T @ moments.cross_y, factors[0].T @ factors[1], atol=1e-6)
    assert moments.cross_x.shape == (6, 6)
    of_groups = replace(moments, cross_x=factors[0], cross_y=factors[1])
    expected, found = solver(of_groups, 6, 0.5), solver(moments, 6, 0.5)
    np.testing.assert_allclose(found.spectrum, expected.spectrum, rtol=1e-5)
    np.testing.assert_allclose(found.weight_x.T @ found.weight_y, expected.weight_x.T @ expected.weight_y, atol=1e-5)


@pytest.mark.parametrize("count", [5, 40], ids=["fewer images than features", "more images"])
def test_moments_of_scaled_features_are_scaled_moments(count):
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(count, 8)).astype(np.float32) + 3 for _ in range(2))
    scales = random.uniform(0.5, 4, size=(2, 8)).astype(np.float32)
    incidence, weights = csr_array(np.eye(count)), random.dirichlet(np.ones(count))
    found = feature_moments(x, y, incidence, incidence, weights).scaled(*scales)
    expected = feature_moments(x / scales[0], y / scales[1], incidence, incidence, weights)
    maps, wanted = (solve(each, 4, 1.0) for each in (found, expected))
    np.testing.assert_allclose(maps.spectrum, wanted.spectrum, rtol=1e-5)
    np.testing.assert_allclose(found.mean_x, expected.mean_x, rtol=1e-5)
    weight = random.normal(size=(3, 8))
    np.testing.assert_allclose(found.y.mapped(weight), expected.y.mapped(weight), rtol=1e-4)
    np.testing.assert_allclose(
        found.y.mapped(weight), np.cov((y / scales[1] @ weight.T).T, aweights=weights, ddof=0), rtol=1e-4
    )
