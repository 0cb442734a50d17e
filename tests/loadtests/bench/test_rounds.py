import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.result import Goal, Spread
from loadtests.bench.rounds import in_turn, median_seconds, spread_of

values = st.lists(st.floats(0.1, 1e3), min_size=1, max_size=7)


@given(st.integers(1, 6), st.integers(1, 5))
def test_every_arm_runs_once_a_round_and_every_second_round_backwards(arms: int, rounds: int) -> None:
    order: list[str] = []
    names = [str(arm) for arm in range(arms)]
    found = in_turn({name: lambda name=name: order.append(name) or len(order) for name in names}, rounds)
    assert all(len(found[name]) == rounds for name in names)
    for turn in range(rounds):
        expected = names if turn % 2 == 0 else names[::-1]
        assert order[turn * arms : (turn + 1) * arms] == expected


@given(values)
def test_a_spread_holds_its_median_between_its_ends(given_: list[float]) -> None:
    spread = Spread(tuple(given_))
    assert spread.low <= spread.median <= spread.high
    assert spread.over(spread).values == (1.0,) * len(given_)
    assert spread.times(2.0).median == 2 * spread.median


def test_ratios_are_of_the_same_rounds_only() -> None:
    with pytest.raises(ValueError, match="argument"):
        Spread((1.0, 2.0)).over(Spread((1.0,)))


@pytest.mark.parametrize(
    ("sense", "reached"), [("at most", [True, True, False]), ("at least", [False, True, True])]
)
def test_a_goal_is_judged_by_the_median(sense: str, reached: list[bool]) -> None:
    goals = [Goal("", Spread((0.0, value, 100.0)), sense, 2.0) for value in (1.0, 2.0, 3.0)]  # type: ignore[arg-type]  # parameters of a test are wider
    assert [goal.reached for goal in goals] == reached


def test_figures_of_rounds_become_a_spread() -> None:
    assert spread_of(["a", "bb"], len) == Spread((1, 2))


def test_one_call_is_not_counted() -> None:
    calls: list[int] = []
    assert median_seconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4
