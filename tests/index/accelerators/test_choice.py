import logging

import numpy as np
import pytest

from index.accelerators import choice
from index.accelerators.choice import choose_kind
from tests.index.conftest import decaying


class Sleepless:
    """A clock that a search moves on: 1 ms with the kind that is called slow, 0.1 ms with the other."""

    def __init__(self, slow):
        self.now, self.slow, self.searches = 0.0, slow, []

    def build(self, kind, vectors):
        self.kind, self.size = kind, len(vectors)
        return self

    def search(self, queries, k, dimensions):
        self.searches.append((queries.shape, k, dimensions, self.size))
        self.now += 1e-3 if self.kind == self.slow else 1e-4

    def perf_counter(self):
        return self.now


@pytest.fixture
def memory(monkeypatch):
    def limit(size):
        monkeypatch.setattr(choice, "memory_limit", lambda: size)

    limit(2**40)
    return limit


def measured_with(monkeypatch, slow):
    clock = Sleepless(slow)
    monkeypatch.setattr(choice, "build_kind", clock.build)
    monkeypatch.setattr(choice, "time", clock)
    return clock


def test_few_vectors_are_compared_without_measuring(memory, monkeypatch):
    clock = measured_with(monkeypatch, "exact")
    for count in (0, 1, 9_999):
        assert choose_kind(np.zeros((count, 4), np.float32)).kind == "exact"
    assert not clock.searches


@pytest.mark.parametrize(("slow", "best"), [("exact", "codes"), ("codes", "exact")])
def test_the_kind_that_is_faster_on_a_sample_is_chosen_and_the_log_says_why(memory, monkeypatch, caplog, slow, best):
    clock = measured_with(monkeypatch, slow)
    with caplog.at_level(logging.INFO, logger="index.accelerators.choice"):
        kind, reason = choose_kind(decaying(60_000, 4))
    assert kind == best
    assert reason == f"an exact search among 50,000 of the photos takes 0.10 ms, and with {slow} 1.00 ms"
    assert caplog.messages == [f"kind of index: {kind}, because {reason}"]
    assert set(clock.searches) == {((1, 4), 10, 4, 50_000)}


def test_vectors_stay_on_disk_where_half_of_the_memory_would_not_hold_them(memory, monkeypatch):
    measured_with(monkeypatch, "exact")
    vectors = decaying(20_000, 4)
    memory(2 * vectors.nbytes)
    assert choose_kind(vectors).kind == "codes"
    memory(2 * vectors.nbytes - 2)
    assert choose_kind(vectors).kind == "disk"


def test_real_kinds_are_measured(memory, monkeypatch):
    monkeypatch.setattr(choice, "_SMALL", 100)
    kind, reason = choose_kind(decaying(2000, 32))
    assert kind in ("exact", "codes")
    assert reason.startswith("an exact search among 2,000 of the photos takes ")
