"""Working ahead: in order, with bounded memory, and stopped when the consumer stops."""

import threading

import pytest

from training.base.prefetch import map_ahead


def test_results_are_in_the_order_of_the_items():
    second_done = threading.Event()

    def slowest_first(item: int) -> int:
        if item == 0:
            assert second_done.wait(60)
        elif item == 1:
            second_done.set()
        return item * item

    assert list(map_ahead(slowest_first, range(50), workers=2)) == [item * item for item in range(50)]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_items_are_taken_than_may_wait(ahead):
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for count, result in enumerate(map_ahead(str, items(), ahead=ahead, workers=2), start=1):
        assert result == str(count - 1)
        assert len(taken) <= count + ahead


def test_an_error_is_raised_in_its_place():
    results = map_ahead(lambda item: 1 / item, [2, 1, 0, 1], workers=2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_consumer_that_stops_ends_the_threads():
    threads = set()

    def seen(item: int) -> int:
        threads.add(threading.current_thread())
        return item

    results = map_ahead(seen, range(1000), ahead=4, workers=2)
    assert next(results) == 0
    results.close()
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def test_nothing_gives_nothing():
    assert list(map_ahead(str, [])) == []
