import numpy as np
import pytest

from index.accelerators import kinds
from index.accelerators.kinds import COMPRESSED, build_kind, choose_kind, read_kind
from tests.index.conftest import decaying


def test_small_galleries_are_searched_whole_and_large_ones_in_clusters(monkeypatch):
    monkeypatch.setattr(kinds, "memory_limit", lambda: 2**40)
    assert choose_kind(0, 256) == "exact"
    assert choose_kind(99_999, 256) == "exact"
    assert choose_kind(100_000, 256) == "ivf"
    assert choose_kind(10**12, 256) == "sq8"


def test_vectors_are_compressed_where_half_of_the_memory_of_the_container_would_not_hold_them(monkeypatch):
    bytes_ = 4 * 1_000_000 * 256
    monkeypatch.setattr(kinds, "memory_limit", lambda: 2 * bytes_)
    assert choose_kind(1_000_000, 256) == "ivf"
    monkeypatch.setattr(kinds, "memory_limit", lambda: 2 * bytes_ - 2)
    assert choose_kind(1_000_000, 256) == "sq8"
    assert choose_kind(99_999, 256) == "exact"


@pytest.mark.parametrize("kind", ["exact", "ivf", "fp16", "sq8", "hnsw"])
def test_what_is_read_answers_like_what_was_written(kind, tmp_path):
    vectors, queries = decaying(2000, 24), decaying(5, 24, 1)
    built = build_kind(kind, vectors)
    built.write(tmp_path)
    if kind in COMPRESSED:
        np.save(tmp_path / "vectors.npy", vectors)
    stored = read_kind(kind, tmp_path)
    for dimensions in (3, 24):
        for one, other in zip(
            built.search(queries, 10, dimensions), stored.search(queries, 10, dimensions), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    positions = np.array([1999, 0, 7])
    np.testing.assert_array_equal(stored.gather(positions), vectors[positions])
    assert (stored.error, stored.largest_effort) == (built.error, built.largest_effort)
    assert (stored.error > 0) == (kind in COMPRESSED)
