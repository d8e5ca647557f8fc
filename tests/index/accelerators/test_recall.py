from index.accelerators.recall import RecallPoint, effort_for

POINTS = [
    RecallPoint(dimensions=dimensions, effort=effort, recall=recall)
    for dimensions, found in ((4, {1: 0.9, 2: 0.99, 4: 1.0}), (16, {1: 0.7, 3: 0.96}))
    for effort, recall in found.items()
]


def test_the_smallest_effort_that_sufficed_at_both_measured_neighbours():
    assert effort_for(POINTS, 4, 0.9) == 1
    assert effort_for(POINTS, 4, 0.95) == 2
    assert effort_for(POINTS, 16, 0.95) == 3
    assert effort_for(POINTS, 9, 0.95) == 3
    assert effort_for(POINTS, 2, 0.99) == 2


def test_exact_where_nothing_sufficed_or_all_is_wanted():
    assert effort_for(POINTS, 16, 0.99) is None
    assert effort_for(POINTS, 4, 1) is None
    assert effort_for([], 4, 0.5) is None


def test_more_results_than_measured_take_more_effort():
    assert effort_for(POINTS, 16, 0.95, 10) == effort_for(POINTS, 16, 0.95, 1) == 3
    assert effort_for(POINTS, 16, 0.95, 25) == 8
