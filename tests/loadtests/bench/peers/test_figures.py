from loadtests.bench.load import Load
from loadtests.bench.peers import figures
from loadtests.bench.peers.arms import BENTOML, DISTRIBUTED, FASTAPI, FUSED, LITSERVE, NOOP
from loadtests.bench.peers.figures import Measured, Pipeline
from loadtests.bench.result import Spread


def load(p50: float, rate: float = 100.0, errors: int = 0) -> Load:
    return Load(rate, p50, p50 * 2, p50 * 3, errors=errors, non_2xx=0)


def arm(p50: float, rate: float = 100.0, cpu: float = 4.0, errors: int = 0) -> Measured:
    return Measured(load(p50), load(p50 * 32, rate, errors), {40.0: load(p50, 40.0)}, cpu)


ROUNDS = {
    FUSED: [arm(3.0, 300.0), arm(4.0, 400.0)],
    DISTRIBUTED: [arm(6.0), arm(7.0)],
    FASTAPI: [arm(3.0, 200.0), arm(3.0, 200.0)],
    LITSERVE: [arm(5.0, 150.0), arm(5.0, 100.0)],
    NOOP: [arm(0.5, 1_000.0), arm(1.0, 1_000.0)],
}
PIPELINE = [Pipeline(2.0, 2.0, 2.5, 3.0, 1.0), Pipeline(2.0, 2.0, 2.5, 3.0, 1.0)]
HOPS = [load(2.0), load(3.0)]


def test_overhead_is_counted_in_no_ops_of_the_same_round() -> None:
    fused, distributed = figures.overhead_goals(ROUNDS, PIPELINE, HOPS)
    assert fused.found.values == (2.0, 2.0)
    assert distributed.found.values == (8.0, 5.0)
    assert not fused.reached
    assert "0.75 ms for the no-op" in fused.limit
    # 0.5 ms over 0.5 and 1 ms of the no-op
    assert "after a pause of 1 ms takes 0.8 more" in fused.limit
    # 3 ms less 2 in process, over 0.5 and 1 ms of the no-op
    assert fused.limit.endswith("FastAPI, which has no Ray, is at 1.5")
    # 2 and 3 ms over 0.5 and 1 ms of the no-op
    assert "asks two others in turn takes 3.5 of it" in distributed.limit


def test_throughput_is_a_ratio_of_the_same_round_and_left_out_arms_have_no_goal() -> None:
    goals = {goal.measure: goal for goal in figures.throughput_goals(ROUNDS, PIPELINE)}
    assert not any(BENTOML in measure for measure in goals)
    fastapi = next(goal for measure, goal in goals.items() if FASTAPI in measure)
    assert fastapi.found.values == (1.5, 2.0)
    assert fastapi.reached
    # 1 ms of the no-op's worker and 1 of CPU for the pipeline are 500 a second, and FastAPI answered 200
    assert "a no-op's 1.00 ms" in fastapi.limit
    assert "the pipeline's 1.00 ms of CPU" in fastapi.limit
    assert fastapi.limit.endswith("answers 500, 2.50 of what FastAPI does")
    litserve = next(goal for measure, goal in goals.items() if LITSERVE in measure)
    assert litserve.limit.endswith("of what LitServe does; FastAPI does 1.67 of it")


def test_errors_of_both_closed_loops_are_added_up() -> None:
    table = figures.closed_table({FUSED: [arm(1.0, errors=2), arm(1.0, errors=3)]}, PIPELINE)
    ours = figures.PIPELINE, figures.PAUSED, figures.AT_ONCE, figures.TOGETHER
    assert [row[0] for row in table.rows] == [*ours, FUSED]
    assert table.rows[-1][-1] == 5
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_every_table_has_a_cell_for_each_column() -> None:
    pairs = {FUSED: [(load(1.0), 4.0)]}
    for table in (
        figures.open_table(ROUNDS),
        figures.hops_table(ROUNDS[NOOP], HOPS),
        figures.workers_table(pairs),
        figures.memory_table({FUSED: {"ray::ServeReplica": 2}}),
    ):
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_memory_of_the_service_counts_redis_and_names_the_largest() -> None:
    held = {"ray::ServeReplica:marquee:Ingress": 250_000_000, "raylet": 20_000_000, figures.REDIS: 10_000_000}
    worker, service = figures.memory_goals({FUSED: held, NOOP: {"raylet": 20_000_000, "gcs": 5_000_000}})
    assert worker.found == Spread((250.0,))
    assert service.found == Spread((280.0,))
    assert service.limit.startswith("ray::ServeReplica:marquee:Ingress 250 MB")
    assert "takes 25 MB" in service.limit
