from loadtests.bench.peers import floor_figures
from loadtests.bench.peers.arms import BARE, FUSED, NOOP
from loadtests.bench.peers.figures import PIPELINE

FOUND = {PIPELINE: [1.0, 1.0], NOOP: [0.5, 0.25], BARE: [2.0, 1.25], FUSED: [2.5, 2.0]}


def test_the_floor_is_counted_in_no_ops_of_the_same_round() -> None:
    goal = floor_figures.goal(FOUND)
    assert goal.found.values == (2.0, 1.0)
    assert goal.reached
    assert "takes 3.50 in the same rounds" in goal.limit


def test_a_floor_above_the_goal_is_not_reached() -> None:
    assert not floor_figures.goal({**FOUND, BARE: [2.0, 2.0]}).reached


def test_the_table_has_a_cell_for_each_column() -> None:
    table = floor_figures.table(FOUND)
    assert [row[0] for row in table.rows] == [PIPELINE, NOOP, BARE, FUSED]
    assert all(len(row) == len(table.columns) for row in table.rows)
