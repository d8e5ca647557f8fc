import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.gallery.positions import ChangedPositions, Positions

contents = st.integers(0, 5)  # few, so that many photos have the same bytes


def array(values):
    return np.array(values, np.int64)


def assert_holds(positions, expected):
    """``expected``: content by id."""
    ids = positions.ids_at(np.arange(positions.size))
    assert positions.count == len(expected)
    assert len(positions.alive) == positions.size
    assert positions.contents_at(positions.in_order()).tolist() == [expected[i] for i in sorted(expected)]
    assert ids[positions.in_order()].tolist() == sorted(expected)
    assert positions.alive.sum() == len(expected)
    assert ids[positions.alive].tolist() == ids[np.sort(positions.in_order())].tolist()
    wanted = np.arange(20)
    assert sorted(ids[positions.of_ids(wanted)].tolist()) == sorted(expected)
    assert positions.alive[positions.of_ids(wanted)].all()
    for wanted in ([2], [1, 4, 77], []):
        held = sorted(identifier for identifier, content in expected.items() if content in wanted)
        assert sorted(ids[positions.of_contents(array(wanted))].tolist()) == held
    firsts = {min(i for i in expected if expected[i] == content) for content in expected.values()}
    assert set(ids[positions.firsts].tolist()) == firsts
    assert set(ids[positions.first_of_each(positions.in_order())].tolist()) == firsts


@given(
    st.dictionaries(st.integers(1, 12), contents, max_size=10),
    st.lists(st.dictionaries(st.integers(1, 15), st.none() | contents, max_size=6), max_size=3),
)
def test_layers_of_changes_hold_what_is_left_and_what_came(base, layers):
    expected = dict(sorted(base.items()))
    positions = Positions(array(list(expected)), array(list(expected.values())))
    assert_holds(positions, expected)
    for layer in layers:
        there = {identifier: content for identifier, content in layer.items() if content is not None}
        positions = ChangedPositions(positions, array(list(layer)), array(list(there)), array(list(there.values())))
        expected = {i: content for i, content in expected.items() if i not in layer} | there
        assert_holds(positions, expected)


def test_a_base_is_not_changed_by_what_is_laid_over_it():
    base = Positions(array([1, 2, 3]), array([7, 7, 8]))
    before = base.firsts.tolist()
    changed = ChangedPositions(base, array([1]), array([4]), array([8]))
    assert changed.ids_at(np.flatnonzero(changed.firsts)).tolist() == [2, 3]
    assert (base.alive.all(), base.firsts.tolist(), base.count) == (True, before, 3)


@pytest.mark.parametrize("size", [0, 1])
def test_few_or_no_photos(size):
    positions = Positions(array([5] * size), array([9] * size))
    assert positions.of_ids(array([4, 5, 6])).tolist() == [0] * size
    assert positions.of_contents(array([9])).tolist() == [0] * size
    assert positions.firsts.tolist() == [True] * size
