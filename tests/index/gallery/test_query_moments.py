import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import load_generation, read_generation
from index.gallery.query_moments import add_queries, known_queries
from index.gallery.searcher import Searcher
from index.jobs import compact
from tests.index.conftest import decaying
from training.model.gallery_order import SecondMoment


def sums(vectors):
    found = SecondMoment(vectors.shape[1])
    found.add(vectors)
    return found


def assert_same(found, expected):
    assert found.count == expected.count
    np.testing.assert_allclose(found.total, expected.total)
    np.testing.assert_allclose(found.products, expected.products)


def test_sums_add_up_for_each_model(tmp_path):
    assert known_queries(tmp_path, "a", 16).count == 0
    first, second = decaying(5, 16, 1), decaying(7, 16, 2)
    add_queries(tmp_path, "a", sums(first))
    add_queries(tmp_path, "b", sums(second))
    add_queries(tmp_path, "a", sums(second))
    assert_same(known_queries(tmp_path, "a", 16), sums(np.concatenate([first, second])))
    assert_same(known_queries(tmp_path, "b", 16), sums(second))


def test_several_services_add_at_the_same_time(tmp_path):
    vectors = decaying(40, 16)
    parts = np.split(vectors, 8)
    threads = [threading.Thread(target=add_queries, args=(tmp_path, "a", sums(part))) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(known_queries(tmp_path, "a", 16), sums(vectors))


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_reported_and_taken_for_empty(tmp_path, content, caplog):
    (tmp_path / "queries.sqlite").write_bytes(content)
    assert known_queries(tmp_path, "a", 16).count == 0
    assert "delete the file to begin again" in caplog.text


def test_sums_of_other_sizes_or_without_values_are_taken_for_empty(tmp_path, caplog):
    add_queries(tmp_path, "a", sums(decaying(5, 8)))
    assert known_queries(tmp_path, "a", 16).count == 0
    with closing(sqlite3.connect(tmp_path / "queries.sqlite")) as connection, connection:
        connection.execute("UPDATE moments SET total = ?", (np.full(8, np.nan).tobytes(),))
    assert known_queries(tmp_path, "a", 8).count == 0
    assert caplog.text.count("cannot be read") == 2


def test_what_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(GalleryError, match=r"queries\.sqlite cannot be written"):
        add_queries(tmp_path / "missing", "a", sums(decaying(1, 8)))


def test_the_next_base_learns_from_what_was_drawn(fill):
    random = np.random.default_rng(0)
    photos = random.normal(size=(2000, 16)).astype(np.float32)
    path = fill(photos)
    assert read_generation(path).sketches == 0
    sketches = np.zeros((500, 16), np.float32)
    sketches[:, 11] = random.normal(size=500)
    add_queries(path, read_generation(path).model, sums(sketches))
    before = load_generation(path).order
    fill(photos[:1] + 1, start=2000)  # published beside the old base
    assert read_generation(path).sketches == 0
    np.testing.assert_array_equal(load_generation(path).order.sketch_map, before.sketch_map)
    with closing(Gallery.open(path, write=True)) as gallery:
        compact(gallery)
        assert gallery.problems() == []
    assert read_generation(path).sketches == 500
    query, searcher = np.eye(16, dtype=np.float32)[[11]], Searcher.open(path, "cpu")
    [whole], [one] = (searcher.search(query, 1, dimensions=dimensions) for dimensions in (16, 1))
    assert whole[0].id == one[0].id


def test_sketches_of_another_model_count_for_nothing(fill):
    path = fill(decaying(50, 16))
    add_queries(path, "another", sums(decaying(5, 16)))
    with closing(Gallery.open(path, write=True)) as gallery:
        compact(gallery)
    assert read_generation(path).sketches == 0
