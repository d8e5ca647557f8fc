import gc
from collections import deque

from service.engine import memory
from service.engine.memory import Leftovers, release_memory, settle


class Large:
    pass


def test_memory_is_released_once_something_large_is_gone(monkeypatch):
    released = []
    monkeypatch.setattr(memory, "release_memory", lambda: released.append(True))
    leftovers, first, second = Leftovers(), Large(), Large()
    leftovers.watch(first)
    leftovers.watch(second)
    assert (leftovers.clear(), released) == (False, [])
    del first
    assert (leftovers.clear(), leftovers.clear(), released) == (True, False, [True])
    del second
    assert (leftovers.clear(), leftovers.clear(), released) == (True, False, [True, True])


def test_garbage_does_not_pile_up_beside_what_is_loaded():
    """What was under way when other garbage was collected is looked at again soon, however much is loaded."""
    loaded = [[] for _ in range(500_000)]
    try:
        settle()
        before, under_way = gc.get_stats()[2]["collections"], deque(maxlen=100)
        for _ in range(400_000):
            request = []
            request.append(request)
            under_way.append(request)
        assert gc.get_stats()[2]["collections"] > before
    finally:
        gc.unfreeze()
    assert len(loaded) == 500_000


def test_a_system_that_cannot_do_it_is_left_alone(monkeypatch):
    release_memory()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    release_memory()
