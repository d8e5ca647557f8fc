import numpy as np
import pytest

from index.accelerators.kinds import KEEP_VECTORS, KINDS, build_kind, read_kind
from tests.index.conftest import decaying


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_answers_like_what_was_written(kind, tmp_path):
    vectors, queries = decaying(2000, 24), decaying(5, 24, 1)
    built = build_kind(kind, vectors)
    built.write(tmp_path)
    if kind in KEEP_VECTORS:
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
