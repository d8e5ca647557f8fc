import threading

import pytest

from index.stage_times import StageTimes


def test_nothing_limits_a_job_that_has_done_nothing():
    assert StageTimes({"reading": 2, "writing": 1}).limit == ""


def test_the_stage_that_is_nearest_to_its_limit_limits_the_job():
    times = StageTimes({"reading": 6, "encoding": 2, "writing": 1})
    times.clock |= {"reading": 5.0, "encoding": 3.0, "writing": 1.0}
    assert times.limit == "encoding"
    times.clock["writing"] = 1.6
    assert times.limit == "writing"


def test_time_counts_even_if_a_stage_fails_and_from_every_thread():
    times = StageTimes({"reading": 1, "encoding": 1})

    def work(stage="encoding"):
        with times.stage(stage):
            sum(range(200_000))
            if stage == "reading":
                raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        work("reading")
    once = times.processor["reading"]
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times.clock["reading"] >= 0.9 * once > 0
    assert times.processor["encoding"] > 2 * once
