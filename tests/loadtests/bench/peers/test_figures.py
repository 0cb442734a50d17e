from loadtests.bench.load import Load
from loadtests.bench.peers import figures
from loadtests.bench.peers.arms import BENTOML, FASTAPI, FASTAPI_BATCHED, FUSED, LITSERVE
from loadtests.bench.peers.figures import Measured
from loadtests.bench.result import Spread


def load(p50: float, rate: float = 100.0, errors: int = 0) -> Load:
    return Load(rate, p50, p50 * 2, p50 * 3, errors=errors, non_2xx=0)


def arm(p50: float, rate: float = 100.0, errors: int = 0) -> Measured:
    return Measured(load(p50), load(p50 * 32, rate, errors), 4.0)


ROUNDS = {
    FUSED: [arm(3.0, 300.0), arm(4.0, 400.0)],
    FASTAPI: [arm(3.0, 200.0), arm(2.0, 200.0)],
    FASTAPI_BATCHED: [arm(3.0, 400.0), arm(3.0, 400.0)],
    LITSERVE: [arm(6.0, 150.0), arm(5.0, 100.0)],
}


def test_throughput_is_a_ratio_of_the_same_round_and_left_out_arms_have_no_goal() -> None:
    goals = {goal.measure.rpartition(" ÷ ")[2]: goal for goal in figures.goals(ROUNDS)}
    assert BENTOML not in goals
    assert goals[FASTAPI].found.values == (1.5, 2.0)
    assert goals[FASTAPI].reached
    assert not goals[FASTAPI_BATCHED].reached
    assert goals[LITSERVE].found.values == (2.0, 4.0)


def test_ratios_are_those_of_the_same_round() -> None:
    rows = {row[0]: row[1:] for row in figures.ratios_table(ROUNDS).rows}
    assert FUSED not in rows
    assert rows[FASTAPI] == (Spread((1.0, 2.0)), Spread((1.5, 2.0)))


def test_errors_of_both_closed_loops_are_added_up() -> None:
    [row] = figures.closed_table({FUSED: [arm(1.0, errors=2), arm(1.0, errors=3)]}).rows
    assert row[-1] == 5


def test_every_table_has_a_cell_for_each_column() -> None:
    memory = figures.memory_table({FUSED: 270_000_000})
    assert memory.rows == ((FUSED, 270.0),)
    for table in (figures.closed_table(ROUNDS), figures.ratios_table(ROUNDS), memory):
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
