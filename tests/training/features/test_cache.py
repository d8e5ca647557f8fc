"""The feature cache: vectors come back unchanged, and what is not whole does not come back at all."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from training.features.cache import FeatureCache

VECTOR = np.array([1.5, -2.0, np.pi], np.float32)


@pytest.fixture
def cache(tmp_path):
    with closing(FeatureCache(tmp_path / "new" / "cache")) as store:
        yield store


def test_a_vector_comes_back_under_its_key_and_content_alone(cache):
    cache.put("key", b"digest", VECTOR)
    np.testing.assert_array_equal(cache.get("key", b"digest"), VECTOR)
    assert cache.get("key", b"other") is None
    assert cache.get("other", b"digest") is None
    cache.put("key", b"digest", 2 * VECTOR)
    np.testing.assert_array_equal(cache.get("key", b"digest"), 2 * VECTOR)


def test_vectors_are_stored_in_single_precision(cache):
    cache.put("key", b"digest", VECTOR.astype(np.float64))
    assert cache.get("key", b"digest").dtype == np.float32


def test_what_was_committed_is_kept_and_the_rest_dropped(tmp_path):
    with closing(FeatureCache(tmp_path)) as store:
        store.put("key", b"kept", VECTOR)
        store.commit()
        store.put("key", b"dropped", VECTOR)
    with closing(FeatureCache(tmp_path)) as store:
        np.testing.assert_array_equal(store.get("key", b"kept"), VECTOR)
        assert store.get("key", b"dropped") is None


def test_a_process_that_has_not_committed_keeps_no_other_from_writing(tmp_path):
    with closing(FeatureCache(tmp_path)) as slow, closing(FeatureCache(tmp_path)) as other:
        slow.put("key", b"slow", VECTOR)
        other.put("key", b"other", VECTOR)
        other.commit()
        slow.commit()
        np.testing.assert_array_equal(slow.get("key", b"other"), VECTOR)
        np.testing.assert_array_equal(other.get("key", b"slow"), VECTOR)


def test_a_vector_that_is_cut_is_none(tmp_path):
    with closing(FeatureCache(tmp_path)) as store:
        store.put("key", b"digest", VECTOR)
        store.commit()
    with closing(sqlite3.connect(tmp_path / "features.sqlite")) as connection:
        connection.execute("UPDATE features SET vector = ?", (VECTOR.tobytes()[:-1],))
        connection.commit()
    with closing(FeatureCache(tmp_path)) as store:
        assert store.get("key", b"digest") is None


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "features.sqlite").write_bytes(b"not a database, but long enough to look like one" * 40)
    with pytest.raises(sqlite3.DatabaseError):
        FeatureCache(tmp_path)
