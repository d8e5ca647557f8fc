import asyncio
import threading

import pytest

from service.encoding.workers import MORE_WORKERS
from service.engine import probing
from service.engine.lifecycle import Engine
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings


@pytest.fixture
def engine(gallery_path, monkeypatch):
    monkeypatch.setattr("training.inference.plan.processors", lambda: 1)
    settings = ServiceSettings(gallery=gallery_path, device="cpu", runtime="torch", reload_seconds=0, max_concurrent=1)
    engine = Engine(settings, Metrics())
    yield engine
    engine.close()


@pytest.fixture
def loop(engine):
    [loop] = [loop for loop in engine.loops if loop.name == "search"]
    return loop


async def keep_busy(engine, count, work):
    """Gives the threads so much work that the rest waits."""
    return [asyncio.create_task(engine.workers.run(Stopwatch(), work)) for _ in range(count)]


def test_a_service_that_searches_is_ready(engine, loop):
    asyncio.run(loop.attempt())
    assert engine.alarms == []


@pytest.mark.parametrize("count", [1 + MORE_WORKERS, 10_000])
def test_threads_that_are_stuck_are_an_alarm_until_they_go_on(engine, loop, monkeypatch, count):
    """Whether the queue has room for the search or not."""
    monkeypatch.setattr(probing, "_SECONDS", 0.3)
    go_on = threading.Event()

    async def run():
        tasks = await keep_busy(engine, count, lambda: go_on.wait(60))
        await loop.attempt()
        assert "search fails (TimeoutError)" in engine.alarms[0]
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        monkeypatch.setattr(probing, "_SECONDS", 60.0)
        await loop.attempt()
        assert engine.alarms == []

    asyncio.run(run())


def test_places_that_are_never_left_are_an_alarm(engine, loop, monkeypatch):
    monkeypatch.setattr(probing, "_SECONDS", 0.3)
    go_on = threading.Event()

    def stay():
        with engine._tenure.serving.model.place(Stopwatch()):
            go_on.wait(60)

    async def run():
        tasks = await keep_busy(engine, 1, stay)
        await loop.attempt()
        assert "search fails (TimeoutError)" in engine.alarms[0]
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_threads_that_are_busy_are_no_alarm(engine, loop, monkeypatch):
    monkeypatch.setattr(probing, "_LOOK_SECONDS", 0.001)
    steps = threading.Semaphore(0)

    async def run():
        tasks = await keep_busy(engine, 10_000, lambda: steps.acquire(timeout=60))
        await asyncio.sleep(0)
        probe = asyncio.create_task(loop.attempt())
        await asyncio.wait({probe}, timeout=0.05)
        assert not probe.done()
        steps.release(1)
        await probe
        assert engine.alarms == []
        steps.release(10_000)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
