import asyncio
import gc
import threading

import pytest

from service.encoding.workers import Workers, finish_all
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.inference.plan import Plan


def test_a_full_line_is_a_503_until_it_moves():
    gate, metrics = threading.Event(), Metrics()
    workers = Workers(1, 2, metrics)

    async def answer():
        running = [asyncio.create_task(workers.run(Stopwatch(), gate.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        assert metrics.registry.get_sample_value("svdraw_encoder_queue_size") == 2
        with pytest.raises(RequestProblem) as caught:
            await workers.run(Stopwatch(), gate.wait, 10)
        assert caught.value.status == 503
        assert caught.value.headers["Retry-After"]
        gate.set()
        assert await asyncio.gather(*running) == [True] * 3
        assert await workers.run(Stopwatch(), gate.wait, 10)
        assert metrics.registry.get_sample_value("svdraw_encoder_queue_size") == 0

    asyncio.run(answer())
    workers.close()


def test_time_in_the_line_is_a_stage_and_failures_reach_the_caller():
    workers, stopwatch = Workers(1, 1, Metrics()), Stopwatch()

    def fail():
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        asyncio.run(workers.run(stopwatch, fail))
    assert [stage.name for stage in stopwatch.stages] == ["queue"]
    workers.close()


@pytest.mark.parametrize(("concurrent", "items"), [(1, 32), (2, 1), (64, 32), (500, 100)])
def test_the_line_holds_every_request_and_whole_batches(concurrent, items):
    settings = ServiceSettings(gallery="unused", max_concurrent=concurrent, max_items=items)
    workers, gate = Workers.for_service(settings, Plan(2, 1, 2), Metrics()), threading.Event()

    async def fill():
        running = [
            asyncio.create_task(workers.run(Stopwatch(), gate.wait, 60)) for _ in range(max(concurrent, 2 * items))
        ]
        await asyncio.sleep(0)
        assert not any(task.done() for task in running)
        gate.set()
        assert all(await asyncio.gather(*running))

    asyncio.run(fill())
    workers.close()


def test_jobs_of_one_request_leave_room_in_the_line():
    begun, most = 0, 0

    async def job(number):
        nonlocal begun, most
        begun += 1
        most = max(most, begun)
        await asyncio.sleep(0)
        begun -= 1
        return number

    assert asyncio.run(finish_all([job(number) for number in range(9)], 2)) == list(range(9))
    assert most == 2


def test_jobs_that_were_never_begun_end_with_their_request():
    async def cancel():
        gate = asyncio.Event()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(finish_all([gate.wait() for _ in range(5)], 2), 0.01)

    asyncio.run(cancel())
    gc.collect()  # a warning, which is an error, if one was forgotten
