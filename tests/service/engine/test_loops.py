import logging

import anyio
import pytest

from index.errors import GalleryDamaged
from service.engine.loops import ALARMING, Loop
from service.http.metrics import Metrics


class Job:
    """Fails with one error after the other, then works."""

    def __init__(self, *errors):
        self.errors = list(errors)

    async def __call__(self):
        if self.errors:
            raise self.errors.pop(0)


def attempt(loop, times):
    async def attempts():
        for _ in range(times):
            await loop.attempt()

    anyio.run(attempts)


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("CUDA out of memory"), MemoryError(), KeyError("x")])
def test_any_error_is_counted_and_the_alarm_ends_once_it_works(error, caplog):
    metrics = Metrics()
    loop = Loop("reload", Job(*[error] * ALARMING), 5, metrics)
    attempt(loop, ALARMING - 1)
    assert loop.alarm is None
    attempt(loop, 1)
    assert type(error).__name__ in loop.alarm
    assert str(ALARMING) in loop.alarm
    assert metrics.registry.get_sample_value("svdraw_loop_failures_total", {"loop": "reload"}) == ALARMING
    with caplog.at_level(logging.INFO):
        attempt(loop, 1)
    assert loop.alarm is None
    assert "works again" in caplog.text
    assert loop.pause == 5


def test_each_error_is_logged_once_with_where_it_came_from(caplog):
    errors = [OSError("disk"), OSError("disk"), OSError("network"), OSError("network")]
    attempt(Loop("reload", Job(*errors), 5, Metrics()), 4)
    assert [record.getMessage() for record in caplog.records] == ["reload failed: disk", "reload failed: network"]
    assert all(record.exc_info for record in caplog.records)


def test_what_was_foreseen_is_logged_in_a_line_and_alarms_nobody(caplog):
    loop = Loop("reload", Job(*[GalleryDamaged("half-written")] * 5), 5, Metrics())
    attempt(loop, 5)
    assert loop.alarm is None
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("reload failed: half-written", None)
    ]


@pytest.mark.parametrize("error", [OSError("disk"), GalleryDamaged("half-written")])
def test_what_is_vital_alarms_at_once_and_is_tried_as_often_as_before(error):
    loop = Loop("search", Job(error, error), 5, Metrics(), vital=True)
    for _ in range(2):
        attempt(loop, 1)
        assert loop.alarm == f"search fails ({type(error).__name__}); the service's log says why"
        assert loop.pause == 5
    attempt(loop, 1)
    assert loop.alarm is None


def test_pauses_grow_with_failures(monkeypatch):
    class EndError(Exception):
        pass

    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 8:
            raise EndError

    monkeypatch.setattr("service.engine.loops.anyio.sleep", sleep)
    with pytest.raises(EndError):
        anyio.run(Loop("reload", Job(*[OSError("disk")] * 6), 5, Metrics()).run)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 5]
    many = Loop("reload", Job(*[OSError("disk")] * 2000), 300, Metrics())
    attempt(many, 2000)
    assert many.pause == 300
