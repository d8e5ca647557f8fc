import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from training.base import stored_arrays
from training.base.stored_arrays import load_array, load_arrays


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(6).reshape(2, 3))
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.zeros(3))
    return tmp_path / "one.npy", tmp_path / "two.npz"


def test_arrays_come_back_as_they_were_stored(files):
    one, two = files
    np.testing.assert_array_equal(load_array(one), [[0, 1, 2], [3, 4, 5]])
    mapped = load_array(one, mapped=True)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert {name: array.tolist() for name, array in load_arrays(two).items()} == {"a": [1, 1], "b": [0, 0, 0]}


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_array(tmp_path / "objects.npy")


def test_no_two_threads_parse_headers_at_once(files, monkeypatch):
    load, inside, most = np.load, [], []

    def watched(*arguments, **options):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return load(*arguments, **options)

    monkeypatch.setattr(stored_arrays.np, "load", watched)
    one, two = files
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: load_arrays(two) if number % 2 else load_array(one), range(8)))
    assert most
    assert max(most) == 1
