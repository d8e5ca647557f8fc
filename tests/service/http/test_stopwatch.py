import pytest

from service.http.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """Nanoseconds since the start of the clock, which is not that of 1970."""
    now = [5_000]
    monkeypatch.setattr("service.http.stopwatch.time.perf_counter_ns", lambda: now[0])
    monkeypatch.setattr("service.http.stopwatch.time.time_ns", lambda: 10**18 + now[0])
    return now


def test_stages_add_up_in_the_header_and_tell_when_they_were(clock):
    stopwatch = Stopwatch()
    for _ in range(2):
        clock[0] += 1_000_000
        with stopwatch.stage("decode"):
            clock[0] += 10_000_000
    first, second = stopwatch.stages
    assert stopwatch.started == 10**18 + 5_000
    assert (first.start, first.end) == (10**18 + 1_005_000, 10**18 + 11_005_000)
    assert (second.start, second.end) == (10**18 + 12_005_000, 10**18 + 22_005_000)
    assert stopwatch.server_timing() == "decode;dur=20.00, total;dur=22.00"


def test_the_date_may_jump_in_between(clock, monkeypatch):
    stopwatch = Stopwatch()
    monkeypatch.setattr("service.http.stopwatch.time.time_ns", lambda: 0)
    clock[0] += 3_000_000
    stopwatch.add("queue", stopwatch.started)
    assert stopwatch.stages[0].seconds == 0.003


def test_a_stage_that_fails_does_not_count():
    stopwatch = Stopwatch()
    with pytest.raises(ValueError, match="damaged"), stopwatch.stage("decode"):
        raise ValueError("damaged")
    assert stopwatch.stages == []
