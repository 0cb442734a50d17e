import pytest

from loadtests.bench.inputs import world
from loadtests.bench.result import Spread
from loadtests.bench.rounds import Effort
from loadtests.bench.suites import tracing
from loadtests.bench.suites.tracing import ALL, ONE_PERCENT, section


@pytest.mark.parametrize(("sampled", "reached"), [(1.02, True), (1.05, False)])
def test_what_sampling_costs_is_held_against_the_goal(sampled: float, reached: bool) -> None:
    found = section({ONE_PERCENT: [(2.0, 2 * sampled), (4.0, 4 * sampled)]})
    [goal] = found.goals
    assert goal.found.values == pytest.approx((sampled, sampled))
    assert goal.reached is reached


def test_every_arm_is_measured(tmp_path_factory: pytest.TempPathFactory, bundle_dir) -> None:
    shared = world(bundle_dir.parents[1], tmp_path_factory.mktemp("bench"), True, lambda _: None)
    found = tracing.run(Effort(quick=True, rounds=1, seconds=0, repeats=1), shared)
    [table] = found.tables
    assert [row[0] for row in table.rows] == [ONE_PERCENT, ALL]
    assert all(isinstance(cell, Spread) and cell.median > 0 for row in table.rows for cell in row[1:])
