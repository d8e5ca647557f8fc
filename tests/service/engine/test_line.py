import asyncio
import threading
import time

import pytest

from service.engine.line import Line
from service.errors import RequestProblem


def test_one_runs_at_a_time_in_the_order_in_which_they_came():
    running, ended = threading.Lock(), []

    def work(number):
        assert running.acquire(blocking=False)
        ended.append(number)
        running.release()
        return number

    async def run():
        line = Line()
        return await asyncio.gather(*(line.run(work, number) for number in range(20)))

    assert asyncio.run(run()) == ended == list(range(20))


@pytest.mark.parametrize("cancelled", [False, True])
def test_whose_turn_does_not_come_in_time_is_refused_and_the_next_is_not(cancelled):
    """Also where the turn came, because who had it was cancelled, but its thread has not ended."""
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go_on.wait(60)

    async def run():
        line = Line()
        first = asyncio.create_task(line.run(slow))
        await asyncio.to_thread(begun.wait, 60)
        if cancelled:
            first.cancel()
        with pytest.raises(RequestProblem) as caught:
            await line.run(ended.append, "late", until=time.monotonic() + 0.05)
        assert (caught.value.status, bool(caught.value.headers["Retry-After"])) == (503, True)
        go_on.set()
        await asyncio.wait({first})
        await line.run(ended.append, "in time", until=time.monotonic() + 60)

    asyncio.run(run())
    assert ended == ["in time"]


def test_a_closed_line_refuses_everything():
    line = Line()
    line.close()
    with pytest.raises(RequestProblem, match="stopping"):
        asyncio.run(line.run(int))
