"""From what was measured to tables and goals. Pure: no server, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests.bench.load import Load
from loadtests.bench.peers.arms import BENTOML, DISTRIBUTED, FASTAPI, FUSED, LITSERVE, NOOP
from loadtests.bench.result import Cell, Goal, Spread, Table
from loadtests.bench.rounds import spread_of

PIPELINE = "pipeline in process"
PAUSED = "pipeline in process, 1 ms after the last"
AT_ONCE = "pipeline in process, 32 at once"
TOGETHER = "pipeline in process, 32 at once, read and computed as one"
NOOP_HOPS = "Ray Serve no-op that asks two others in turn"
REDIS = "valkey-server"
MEGABYTE = 1e6

MANY = 32
"""Connections of the closed loop that asks for all a server can give."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm in one round.

    Attributes:
        one, many: closed loops with 1 and 32 connections.
        paced: requests a second asked for → open loop.
        cpu_ms: of the arm's processes, a request, in `many`.
    """

    one: Load
    many: Load
    paced: Mapping[float, Load]
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline alone in one round.

    Attributes:
        p50_ms, cpu_ms: of a call after another, wall and CPU.
        paused_p50_ms: of a call a pause after another, as a server's are.
        many_cpu_ms: of one of 32 at once, each on its own.
        together_cpu_ms: of one of 32 that are read and computed as one.
    """

    p50_ms: float
    cpu_ms: float
    paused_p50_ms: float
    many_cpu_ms: float
    together_cpu_ms: float


Rounds = Mapping[str, Sequence[Measured]]


def closed_table(rounds: Rounds, pipeline: Sequence[Pipeline]) -> Table:
    columns = (
        "served by",
        "p50, ms, 1 connection",
        "p90",
        "p99",
        "requests/s, 32 connections",
        "p50, ms",
        "p90 ",
        "p99 ",
        "CPU, ms a request",
        "errors",
    )
    alone: tuple[Cell, ...] = (
        PIPELINE,
        Spread(tuple(each.p50_ms for each in pipeline)),
        *("",) * 6,
        Spread(tuple(each.cpu_ms for each in pipeline)),
        "",
    )
    paused: tuple[Cell, ...] = (PAUSED, Spread(tuple(each.paused_p50_ms for each in pipeline)), *("",) * 8)
    many: tuple[Cell, ...] = (AT_ONCE, *("",) * 7, _many_cpu(pipeline), "")
    together: tuple[Cell, ...] = (TOGETHER, *("",) * 7, _together_cpu(pipeline), "")
    served = (_closed_row(name, found) for name, found in rounds.items())
    return Table("Closed loop", columns, (alone, paused, many, together, *served))


def _many_cpu(pipeline: Sequence[Pipeline]) -> Spread:
    return Spread(tuple(each.many_cpu_ms for each in pipeline))


def _together_cpu(pipeline: Sequence[Pipeline]) -> Spread:
    return Spread(tuple(each.together_cpu_ms for each in pipeline))


def _closed_row(name: str, found: Sequence[Measured]) -> tuple[Cell, ...]:
    one, many = [each.one for each in found], [each.many for each in found]
    return (
        name,
        *(of(one, quantile) for quantile in QUANTILES),
        of(many, lambda load: load.requests_per_s),
        *(of(many, quantile) for quantile in QUANTILES),
        Spread(tuple(each.cpu_ms for each in found)),
        sum(failures(load) for load in (*one, *many)),
    )


QUANTILES: tuple[Callable[[Load], float], ...] = (
    lambda load: load.p50_ms,
    lambda load: load.p90_ms,
    lambda load: load.p99_ms,
)


def open_table(rounds: Rounds) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, found in rounds.items():
        for rate in found[0].paced:
            loads = [each.paced[rate] for each in found]
            rows.append(
                (
                    name,
                    rate,
                    of(loads, lambda load: load.requests_per_s),
                    *(of(loads, quantile) for quantile in QUANTILES),
                    sum(map(failures, loads)),
                )
            )
    columns = ("served by", "asked, requests/s", "answered, requests/s", "p50, ms", "p90", "p99", "errors")
    return Table("Open loop", columns, tuple(rows))


def workers_table(found: Mapping[str, Sequence[tuple[Load, float]]]) -> Table:
    """Closed loop of 32 connections with two workers: the load and the CPU milliseconds of a request."""
    rows: list[tuple[Cell, ...]] = []
    for name, pairs in found.items():
        loads = [each for each, _ in pairs]
        figures = (lambda load: load.requests_per_s, *QUANTILES)
        spreads = (of(loads, figure) for figure in figures)
        rows.append((name, *spreads, Spread(tuple(cpu for _, cpu in pairs)), sum(map(failures, loads))))
    columns = ("served by", "requests/s", "p50, ms", "p90", "p99", "CPU, ms a request", "errors")
    return Table("Closed loop, 32 connections, two workers", columns, tuple(rows))


def memory_table(memory: Mapping[str, Mapping[str, int]]) -> Table:
    """`memory`: arm → process → PSS in bytes."""
    rows = tuple(
        (
            name,
            sum(held.values()) / MEGABYTE,
            ", ".join(f"{process} {size / MEGABYTE:.0f}" for process, size in _largest(held)[:5]),
        )
        for name, held in memory.items()
    )
    return Table("Memory after load, PSS, each arm alone", ("served by", "MB", "of which"), rows)


def _largest(held: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(held.items(), key=lambda each: -each[1])


def failures(load: Load) -> int:
    return load.errors + load.non_2xx


def _rate(loads: Sequence[Load]) -> Spread:
    return of(loads, lambda load: load.requests_per_s)


def of(loads: Sequence[Load], figure: Callable[[Load], float]) -> Spread:
    return spread_of(list(loads), figure)


def hops_table(noop: Sequence[Measured], hops: Sequence[Load]) -> Table:
    """What two hops cost where nothing is computed."""
    unit, chain = _p50(noop), of(hops, QUANTILES[0])
    columns = ("served by", "p50, ms, 1 connection", "p90", "p99", "p50 ÷ no-op")
    return Table("Two hops", columns, ((NOOP_HOPS, *(of(hops, q) for q in QUANTILES), chain.over(unit)),))


def overhead_goals(rounds: Rounds, pipeline: Sequence[Pipeline], hops: Sequence[Load]) -> list[Goal]:
    """(HTTP p50 - p50 in process) / p50 of the no-op, round by round."""
    chain = of(hops, QUANTILES[0]).over(_p50(rounds[NOOP])).median
    alone = Spread(tuple(each.p50_ms for each in pipeline))
    unit = _p50(rounds[NOOP])
    cold = Spread(tuple(each.paused_p50_ms for each in pipeline)).minus(alone).over(unit).median
    goals = []
    one_request = (
        f"; the no-op is 1 of it, the pipeline after a pause of 1 ms takes {cold:.1f} more, and {FASTAPI}, "
        f"which has no Ray, is at {_p50(rounds[FASTAPI]).minus(alone).over(unit).median:.1f}"
    )
    two_hops = f"; a no-op that asks two others in turn takes {chain:.1f} of it"
    for name, reach, also in ((FUSED, 1.5, one_request), (DISTRIBUTED, 6.0, two_hops)):
        if name in rounds:
            found = _p50(rounds[name]).minus(alone).over(unit)
            goals.append(
                Goal(
                    f"{name}: (p50 over HTTP - p50 in process) ÷ p50 of a Ray Serve no-op",
                    found,
                    "at most",
                    reach,
                    f"p50 {_p50(rounds[name]).median:.2f} ms over HTTP, {alone.median:.2f} ms in process, "
                    f"{unit.median:.2f} ms for the no-op{also}",
                )
            )
    return goals


def _p50(found: Sequence[Measured]) -> Spread:
    return Spread(tuple(each.one.p50_ms for each in found))


def throughput_goals(rounds: Rounds, pipeline: Sequence[Pipeline]) -> list[Goal]:
    """Requests/s of Marquee fused over each peer's at 32 connections.

    The limit is a worker of Ray Serve that does nothing but to run the pipeline: what a request costs the
    no-op's worker, which is busy all the time then, and the pipeline's CPU. Beside it, the pipeline behind
    the least there is, which has no Ray.
    """
    ours, noop, fastapi = (_rate([each.many for each in rounds[name]]) for name in (FUSED, NOOP, FASTAPI))
    alone = _together_cpu(pipeline)
    most = Spread(
        tuple(1e3 / (1e3 / rate + cpu) for rate, cpu in zip(noop.values, alone.values, strict=True))
    )
    goals = []
    for name, reach in ((LITSERVE, 1.5), (BENTOML, 1.5), (FASTAPI, 1.2)):
        if name in rounds:
            theirs = _rate([each.many for each in rounds[name]])
            bare = "" if name == FASTAPI else f"; {FASTAPI} does {fastapi.over(theirs).median:.2f} of it"
            goals.append(
                Goal(
                    f"requests/s at {MANY} connections, {FUSED} ÷ {name}",
                    ours.over(theirs),
                    "at least",
                    reach,
                    f"a worker that takes a no-op's {1e3 / noop.median:.2f} ms and the pipeline's "
                    f"{alone.median:.2f} ms of CPU, where {MANY} are computed as one, and nothing else, "
                    f"answers {most.median:.0f}, "
                    f"{most.over(theirs).median:.2f} of what {name} does{bare}",
                )
            )
    return goals


def memory_goals(memory: Mapping[str, Mapping[str, int]]) -> list[Goal]:
    """Of the fused service, whose replica is the torch worker, and whose Redis is counted with it."""
    held, noop = memory[FUSED], sum(memory[NOOP].values()) / MEGABYTE
    replica = max(size for process, size in held.items() if "ServeReplica" in process)
    whole = sum(held.values())
    rest = ", ".join(f"{process} {size / MEGABYTE:.0f} MB" for process, size in _largest(held)[:6])
    return [
        Goal("PSS of a torch worker, MB", Spread((replica / MEGABYTE,)), "at most", 300.0),
        Goal(
            "PSS of the fused service with Ray and Redis, MB",
            Spread((whole / MEGABYTE,)),
            "at most",
            1_000.0,
            f"{rest}; the no-op, whose three replicas load nothing, takes {noop:.0f} MB",
        ),
    ]
