"""Errors of shards survive being sent, whatever they hold."""

import pickle

import pytest

from index.errors import DimensionsError, FilterError, GalleryError, MetadataError, PageError, QueryTimeout
from service.errors import RequestProblem
from service.shards.fleet import Fleet, Outcome, ShardAway, outcome_of
from service.shards.shard import ShardFacts


class Failing:
    def __init__(self, error):
        self._error = error

    def fail(self):
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        DimensionsError(17, 16),
        FilterError("no filter"),
        GalleryError("no gallery"),
        MetadataError(100),
        PageError(1, 2, 3),
        QueryTimeout(5.0),
        RequestProblem(409, "not now", {"Retry-After": "5"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_on_the_other_side(error):
    sent = pickle.dumps(tuple(outcome_of(Failing(error), "fail")))
    with pytest.raises(type(error)) as caught:
        Outcome(*pickle.loads(sent)).result()
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)


def test_other_errors_are_not_passed_on():
    with pytest.raises(ZeroDivisionError):
        outcome_of(Failing(ZeroDivisionError()), "fail")


def test_a_fleet_of_none_has_no_answer():
    with pytest.raises(RequestProblem, match="no shard of the collection answers"):
        Fleet([], 1.0).look()


class Sometimes:
    """A caller whose shard answers with its facts, or not at all; it is its own pending call."""

    is_there = True

    def call(self, method, *args, **options):
        assert method == "facts"
        return self

    def outcome(self, seconds):
        if not self.is_there:
            raise ShardAway("it is lost")
        return Outcome(ShardFacts(None, 0, 0, []))


def test_a_shard_that_is_lost_is_away_before_any_search():
    callers = [Sometimes(), Sometimes()]
    fleet = Fleet(callers, 1.0)
    fleet.look()
    assert fleet.away == []
    callers[1].is_there = False
    fleet.look()
    assert fleet.away == [1]
    callers[1].is_there = True
    fleet.look()
    assert fleet.away == []
