from service.engine import memory
from service.engine.memory import Leftovers, release_memory


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


def test_a_system_that_cannot_do_it_is_left_alone(monkeypatch):
    release_memory()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    release_memory()
