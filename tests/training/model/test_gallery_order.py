import numpy as np
import pytest

from training.model.gallery_order import SecondMoment, gallery_order, order_of_photos, read_gallery_order

DIM = 12


def moment(vectors):
    return vectors.T.astype(np.float64) @ vectors / len(vectors)


def sums(vectors):
    found = SecondMoment(vectors.shape[1])
    found.add(vectors)
    return found


def drawn(count, seed, shift=0.0):
    mixing = np.random.default_rng(seed).normal(size=(DIM, DIM)) / np.arange(1, DIM + 1)
    values = np.random.default_rng(seed + 1).normal(size=(count, DIM)) @ mixing.T + shift
    return values.astype(np.float32)


@pytest.fixture
def photos():
    return drawn(5000, 1, shift=2.0)


@pytest.fixture
def sketches():
    return drawn(300, 5)


def test_scores_stay_but_for_what_all_photos_of_a_query_share(photos, sketches):
    order = gallery_order(sums(photos), np.arange(DIM, 0, -1), sums(sketches))
    scores = order.sketches(sketches) @ order.photos(photos).T + order.baseline(sketches)[:, None]
    np.testing.assert_allclose(scores, sketches @ photos.T, rtol=1e-4, atol=1e-4)


def test_both_sides_become_uncorrelated_in_falling_order(photos):
    sketches = drawn(300, 5)
    power = np.trace(moment(sketches)) / DIM
    order = gallery_order(sums(photos), np.full(DIM, power), sums(sketches))
    mixed = (moment(sketches) + power * np.eye(DIM)) / 2  # 300 sketches count as much as the training data
    expected = np.diag(order.spectrum)
    np.testing.assert_allclose(order.sketch_map @ mixed @ order.sketch_map.T, expected, atol=1e-9)
    np.testing.assert_allclose(moment(order.photos(photos)), expected, atol=0.02 * order.spectrum[0])
    assert (np.diff(order.spectrum) <= 0).all()


def test_no_other_order_keeps_more_of_the_scores_in_a_prefix(photos):
    sketches = drawn(3000, 5)
    spectrum = np.ones(DIM)
    learned = gallery_order(sums(photos), spectrum, sums(sketches))
    of_photos = order_of_photos(photos, spectrum)
    scores = sketches @ (photos - photos.mean(axis=0)).T

    def lost(f, g, dimensions):
        return np.linalg.norm(scores - f[:, :dimensions] @ g[:, :dimensions].T)

    for dimensions in (1, 4, 8):
        best = lost(learned.sketches(sketches), learned.photos(photos), dimensions)
        assert best < lost(of_photos.sketches(sketches), of_photos.photos(photos), dimensions)
        assert best < lost(sketches, photos - photos.mean(axis=0), dimensions)
        for seed in range(5):
            turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIM, DIM)))[0].astype(np.float32)
            assert best < lost(sketches @ turn, (photos - photos.mean(axis=0)) @ turn, dimensions)


def test_the_rest_is_zero(photos, sketches):
    order = order_of_photos(photos, np.ones(DIM))
    cut = order.sketches(sketches, 5)
    np.testing.assert_array_equal(cut[:, 5:], 0)
    np.testing.assert_array_equal(cut[:, :5], order.sketches(sketches)[:, :5])


@pytest.mark.parametrize("count", [0, 1])
def test_without_photos_that_differ_it_is_the_models(count, photos):
    order = gallery_order(sums(photos[:count]), np.arange(DIM, 0, -1))
    np.testing.assert_allclose(np.abs(order.sketch_map / np.abs(order.sketch_map).max(axis=1)), np.eye(DIM), atol=1e-9)


def test_a_few_photos_come_before_the_models_order():
    photos = np.zeros((4, 4), np.float32)
    photos[:, 3] = [10, -10, 10, -10]
    order = order_of_photos(photos, [4, 3, 2, 1])
    assert np.abs(order.sketch_map).argmax(axis=1).tolist() == [3, 0, 1, 2]


def test_what_is_drawn_moves_its_coordinates_to_the_front_by_its_number():
    photos, spectrum = drawn(1000, 1) * 0 + np.random.default_rng(0).normal(size=(1000, DIM)), np.arange(DIM, 0, -1)
    sketch = np.zeros((1, DIM), np.float32)
    sketch[0, 9] = 1
    places = []
    for count in (0, 1, 300, 100_000):
        drawings = SecondMoment(DIM)
        drawings.add(np.repeat(sketch, count, axis=0))
        order = gallery_order(sums(photos.astype(np.float32)), spectrum, drawings)
        places.append(int(np.abs(order.sketch_map[:, 9] / np.linalg.norm(order.sketch_map, axis=1)).argmax()))
    assert places[0] >= places[1] >= places[2] >= places[3] == 0
    assert places[0] > 5


def test_however_much_is_drawn_the_training_data_counts(photos):
    sketch = np.zeros((1, DIM), np.float32)
    sketch[0, 9] = 1
    drawings = sums(sketch)
    few, many = SecondMoment(DIM), SecondMoment(DIM)
    for target, times in ((few, 3000), (many, 3_000_000)):
        target.count, target.total, target.products = times, drawings.total * times, drawings.products * times
    for one, other in zip(*(gallery_order(sums(photos), np.ones(DIM), s) for s in (few, many)), strict=True):
        np.testing.assert_allclose(one, other)


def test_the_length_of_embeddings_counts_for_nothing(photos, sketches):
    orders = [gallery_order(sums(photos), np.ones(DIM), sums(scale * sketches)) for scale in (1, 8)]
    for one, other in zip(*orders, strict=True):
        np.testing.assert_allclose(one, other)


def test_equal_embeddings_stay_equal_whatever_stands_beside_them(photos):
    order = order_of_photos(photos, np.ones(DIM))
    for count in (1, 2, 7, 100):
        np.testing.assert_array_equal(order.photos(photos[:count])[0], order.photos(photos)[0])
        np.testing.assert_array_equal(order.sketches(photos[:count])[0], order.sketches(photos)[0])


def test_directions_without_a_second_moment_lose_no_score():
    photos = np.zeros((50, DIM), np.float32)
    photos[:, :2] = np.random.default_rng(0).normal(size=(50, 2))
    order = order_of_photos(photos, [1.0, *[0.0] * (DIM - 1)])
    sketches = np.random.default_rng(1).normal(size=(20, DIM)).astype(np.float32)
    scores = order.sketches(sketches) @ order.photos(photos).T + order.baseline(sketches)[:, None]
    np.testing.assert_allclose(scores, sketches @ photos.T, atol=1e-4)


def test_it_is_read_as_it_was_written(photos, tmp_path):
    order = order_of_photos(photos, np.ones(DIM))
    order.write(tmp_path / "order.npz")
    for one, other in zip(order, read_gallery_order(tmp_path / "order.npz"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sums_in_parts_are_sums_of_the_whole(photos):
    parts = sums(photos[:100])
    parts.merge(sums(photos[100:]))
    whole = sums(photos)
    assert parts.count == whole.count == 5000
    np.testing.assert_allclose(parts.mean, photos.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(parts.about_mean, np.cov(photos.T, bias=True), atol=1e-4)
