import re
import time

import pytest

from service.http.stopwatch import Stopwatch


def test_stages_add_up_in_the_header_and_tell_when_they_were():
    stopwatch = Stopwatch()
    for _ in range(2):
        with stopwatch.stage("decode"):
            time.sleep(0.01)
    first, second = stopwatch.stages
    assert stopwatch.started <= first.start < first.end <= second.start
    assert abs(second.end - time.time_ns()) < 1e9
    decode, total = re.fullmatch(r"decode;dur=(\S+), total;dur=(\S+)", stopwatch.server_timing()).groups()
    assert 20 <= float(decode) <= float(total)


def test_a_stage_that_fails_does_not_count():
    stopwatch = Stopwatch()
    with pytest.raises(ValueError, match="damaged"), stopwatch.stage("decode"):
        raise ValueError("damaged")
    assert stopwatch.stages == []
