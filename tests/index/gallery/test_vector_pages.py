import random
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryDamaged
from index.gallery.vector_pages import PAGE, discard_vectors, one_vector, read_vectors, store_vectors

DIM = 3


@pytest.fixture
def connection():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE vectors (page INTEGER PRIMARY KEY, slots INTEGER NOT NULL, vectors BLOB NOT NULL)"
        )
        yield connection


def vector(*values):
    return np.array(values, "<f4").tobytes()


def pages(connection):
    return connection.execute("SELECT page, slots, length(vectors) FROM vectors ORDER BY page").fetchall()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_goes_is_there_or_not(connection, seed):
    chance, expected = random.Random(seed), {}
    for step in range(60):
        some = chance.sample(range(100), chance.randrange(1, 30))
        if chance.random() < 0.6:
            new = {i: vector(i, step, -1) for i in some}
            store_vectors(connection, new)
            expected |= new
        else:
            discard_vectors(connection, some)
            expected = {i: content for i, content in expected.items() if i not in some}
        ids = np.array(sorted(expected), np.int64)
        found = read_vectors(connection, ids, DIM)
        assert [row.tobytes() for row in found] == [expected[i] for i in ids]
        assert sum(row[2] for row in pages(connection)) == 4 * DIM * len(expected)
    rest = ids[:: chance.randrange(1, 5)]
    assert read_vectors(connection, rest, DIM)[:, 0].tolist() == rest.tolist()


def test_a_page_is_as_long_as_what_it_holds_and_goes_with_it(connection):
    store_vectors(connection, {0: vector(0, 0, 0), 15: vector(1, 1, 1), 16: vector(2, 2, 2), 10**12: vector(3, 3, 3)})
    assert pages(connection) == [(0, 1 | 1 << 15, 24), (1, 1, 12), (10**12 // PAGE, 1 << 10**12 % PAGE, 12)]
    discard_vectors(connection, [0, 16, 99, 10**13])
    assert pages(connection) == [(0, 1 << 15, 12), (10**12 // PAGE, 1 << 10**12 % PAGE, 12)]
    discard_vectors(connection, [])
    store_vectors(connection, {})
    [[slots, content]] = connection.execute("SELECT slots, vectors FROM vectors WHERE page = 0")
    assert one_vector(15, slots, content).tolist() == [1, 1, 1]
    with pytest.raises(GalleryDamaged, match="a photo without a vector"):
        one_vector(14, slots, content)


@pytest.mark.parametrize("ids", [[1], [0, 1, 2], [40], [0, 10**12]])
def test_a_vector_that_is_missing_is_damage(connection, ids):
    store_vectors(connection, {0: vector(0, 0, 0), 2: vector(2, 2, 2), 17: vector(3, 3, 3)})
    with pytest.raises(GalleryDamaged, match="a photo without a vector"):
        read_vectors(connection, np.array(ids, np.int64), DIM)


def test_vectors_of_two_sizes_share_no_page(connection):
    with pytest.raises(GalleryDamaged, match="different sizes"):
        store_vectors(connection, {0: vector(0, 0, 0), 1: vector(1)})
    assert read_vectors(connection, np.empty(0, np.int64), DIM).shape == (0, DIM)
