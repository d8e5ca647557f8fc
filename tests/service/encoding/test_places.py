import threading

import pytest

from service.encoding.places import Places
from service.errors import RequestProblem
from service.http.clients import CLIENT, HAS_LEFT
from service.http.stopwatch import Stopwatch
from tests.service.conftest import wait_until


def test_whoever_has_waited_longest_is_next():
    places, order = Places(1), []

    def hold(number):
        with places.hold():
            order.append(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(5)]
    with places.hold():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda number=number: sum(map(len, places._lines.values())) == number + 1)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(5))


def test_clients_take_turns():
    places, order, waiting = Places(1), [], 0

    def hold(client):
        CLIENT.set(client)
        with places.hold():
            order.append(client)

    threads = [threading.Thread(target=hold, args=(client,)) for client in "aaaabbc"]
    with places.hold():
        for thread in threads:
            thread.start()
            waiting += 1
            wait_until(lambda waiting=waiting: sum(map(len, places._lines.values())) == waiting)
    for thread in threads:
        thread.join()
    assert "".join(order) == "abcabaa"


def test_no_more_hold_a_place_than_there_are():
    places, now, most, lock = Places(2), 0, 0, threading.Lock()

    def hold():
        nonlocal now, most
        for _ in range(50):
            with places.hold() as place:
                with lock:
                    now += 1
                    most = max(most, now)
                with lock:
                    now -= 1
                place.leave()
                place.take()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 2
    for _ in range(2):  # both are back
        places.take()


def test_blocks_within_use_the_same_place():
    places, stopwatch = Places(1), Stopwatch()
    with places.hold(stopwatch) as outer:
        with places.hold(stopwatch) as inner:
            assert inner is outer
            inner.leave()
        assert not outer.is_held
        with places.hold() as inner:  # taken again
            assert inner.is_held
        assert outer.is_held
    assert [stage.name for stage in stopwatch.stages] == ["queue"]
    places.take()


def test_who_has_left_gets_no_place_and_keeps_none():
    places = Places(1)
    left = HAS_LEFT.set(lambda: True)
    with pytest.raises(RequestProblem, match="left"), places.hold():
        raise AssertionError("it is not begun")
    HAS_LEFT.reset(left)
    with places.hold() as place:
        assert place.is_held
        left = HAS_LEFT.set(lambda: True)
        with pytest.raises(RequestProblem, match="left"):
            place.take()  # before the next stage
        HAS_LEFT.reset(left)
    assert places._free == 1
