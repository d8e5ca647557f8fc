import numpy as np
import pytest

from training.model.gallery_order import gallery_order


def moment(vectors):
    return vectors.T.astype(np.float64) @ vectors / len(vectors)


@pytest.fixture
def photos():
    mixing = np.random.default_rng(1).normal(size=(12, 12)) / np.arange(1, 13)
    return (np.random.default_rng(0).normal(size=(500, 12)) @ mixing.T).astype(np.float32)


def test_scores_stay_and_coordinates_are_uncorrelated_in_falling_order(photos):
    order = gallery_order(moment(photos), 10**9, np.ones(12))
    turned = order.apply(photos)
    np.testing.assert_allclose(turned @ turned[:5].T, photos @ photos[:5].T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moment(turned), np.diag(order.spectrum), atol=1e-6 * order.spectrum[0])
    assert (np.diff(order.spectrum) <= 0).all()


def test_no_other_rotation_keeps_more_of_the_scores_in_a_prefix(photos):
    order, scores = gallery_order(moment(photos), 10**9, np.ones(12)), photos @ photos.T

    def lost(rotation, dimensions):
        turned = photos @ rotation[:dimensions].T
        return np.linalg.norm(scores - turned @ turned.T)

    for seed in range(5):
        other = np.linalg.qr(np.random.default_rng(seed).normal(size=(12, 12)))[0]
        for dimensions in (1, 4, 8):
            assert lost(order.rotation, dimensions) < lost(other, dimensions)
            assert lost(order.rotation, dimensions) < lost(np.eye(12), dimensions)


def test_the_rest_is_zero(photos):
    order = gallery_order(moment(photos), len(photos), np.ones(12))
    cut = order.apply(photos, 5)
    np.testing.assert_array_equal(cut[:, 5:], 0)
    np.testing.assert_array_equal(cut[:, :5], order.apply(photos)[:, :5])


def test_without_photos_it_is_the_models(photos):
    order = gallery_order(np.zeros((12, 12)), 0, np.arange(12, 0, -1))
    np.testing.assert_allclose(np.abs(order.rotation), np.eye(12), atol=1e-12)
    np.testing.assert_allclose(order.spectrum, np.arange(12, 0, -1))


def test_few_photos_come_before_the_models_order():
    photo = np.zeros((3, 4), np.float32)
    photo[:, 3] = 10
    order = gallery_order(moment(photo), 3, [4, 3, 2, 1])
    assert np.abs(order.rotation).argmax(axis=1).tolist() == [3, 0, 1, 2]


def test_equal_embeddings_stay_equal_whatever_stands_beside_them(photos):
    order = gallery_order(moment(photos), len(photos), np.ones(12))
    for count in (1, 2, 7, 100):
        np.testing.assert_array_equal(order.apply(photos[:count])[0], order.apply(photos)[0])
