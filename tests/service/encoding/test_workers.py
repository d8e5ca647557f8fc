import asyncio
import threading

import pytest
import torch

from service.encoding.plan import make_plan
from service.encoding.workers import Workers
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings


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


def test_a_cpu_encodes_one_by_one_and_a_gpu_in_batches(monkeypatch):
    monkeypatch.setattr("service.encoding.plan.processors", lambda: 8)
    settings = ServiceSettings(gallery="unused")
    cpu, gpu = make_plan(settings, torch.device("cpu")), make_plan(settings, torch.device("cuda"))
    assert (cpu.workers, cpu.at_once, cpu.max_batch, cpu.threads, cpu.cores) == (8 + 32, 8, 1, 1, 8)
    assert gpu.at_once == gpu.workers
    assert (gpu.max_batch, gpu.threads, gpu.cores) == (16, 8, 8)
    assert gpu.workers > 2 * gpu.max_batch


@pytest.mark.parametrize(("concurrent", "items"), [(1, 32), (2, 1), (64, 32), (500, 100)])
def test_the_line_holds_every_request_and_whole_batches(concurrent, items):
    settings = ServiceSettings(gallery="unused", max_concurrent=concurrent, max_items=items)
    assert make_plan(settings, torch.device("cpu")).waiting >= max(concurrent, 2 * items)
