"""Strangers send what they like to one running service: it answers all of it by the rules, and stays as it was.

Every test run sends a few hundred requests that are always the same. SVDRAW_FUZZ_MINUTES, which ``make fuzz`` sets, has
it go on with others.
"""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.hostile.attempts import Api
from tests.hostile.conftest import FAILURES, KEY, MINUTES, PHOTOS, Victim
from tests.hostile.exchange import Request, exchange, written
from tests.hostile.pictures import pictures
from tests.hostile.watch import Watch
from tests.service.conftest import wait_until

pytestmark = pytest.mark.long

KINDS = ["texts", "forms", "images", "heads"]
SECONDS = 60 * MINUTES / len(KINDS)  # for each kind
ROUNDS = 2  # of each kind, however long they take
PHASES = [Phase.generate, Phase.shrink] if MINUTES else [Phase.generate]
ROUND = 40  # requests


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    return pictures()


@pytest.fixture(scope="module")
def watch(victim: Victim, known: Request, originals: dict[str, bytes]) -> Watch:
    """Watches the service from when it has seen every kind of picture, all threads are there, and memory is in use."""

    def search(content: bytes) -> None:
        answer = exchange(victim.port, written("POST", "/v1/search", {"Content-Type": "image/png"}, content), 60)
        assert answer is not None
        assert answer.status == 200, answer

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(search, list(originals.values()) * 10))
    return Watch(victim.port, victim.process.pid, victim.log, known, FAILURES)


@pytest.fixture(scope="module")
def before(watch: Watch):
    return watch.footprint()


@pytest.fixture(scope="module")
def api(victim: Victim, originals: dict[str, bytes]) -> Api:
    answer = exchange(victim.port, written("GET", "/openapi.json"), 60)
    assert answer is not None
    return Api(json.loads(answer.body), originals, KEY, kept=PHOTOS)


@pytest.mark.parametrize("kind", KINDS)
def test_strangers(watch: Watch, before, api: Api, kind: str, tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS if MINUTES else math.inf
    database = DirectoryBasedExampleDatabase(tmp_path)
    limits = settings(max_examples=ROUND, phases=PHASES, database=database, derandomize=False)
    number, failed = 0, False

    @limits
    @given(request=getattr(api, kind)())
    def attempt(request: Request) -> None:
        nonlocal failed
        if time.monotonic() < end or failed:  # a failure is tried again, however late
            failed = True
            watch.attempt(request)
            failed = False

    while time.monotonic() < end and (MINUTES or number < ROUNDS):
        seed(number)(attempt)()
        number += 1
    now = []
    with suppress(AssertionError):  # told below, with figures
        wait_until(lambda: now.append(watch.footprint()) or not now[-1].exceeds(before), 60)
    assert not now[-1].exceeds(before), f"before: {before}; now: {now[-1]}"
