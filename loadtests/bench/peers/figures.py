"""From what was measured to tables and goals. Pure: no server, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests.bench.load import Load
from loadtests.bench.peers.arms import BENTOML, FASTAPI, FASTAPI_BATCHED, FUSED, LITSERVE
from loadtests.bench.result import Cell, Goal, Spread, Table
from loadtests.bench.rounds import spread_of

MEGABYTE = 1e6

MANY = 32
"""Connections of the closed loop that asks for all a server can give."""

REACH = {LITSERVE: 1.5, BENTOML: 1.5, FASTAPI: 1.6, FASTAPI_BATCHED: 0.95}
"""Peer → Marquee's requests/s over its own, at least."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm in one round.

    Attributes:
        one, many: closed loops with 1 and 32 connections.
        cpu_ms: of the arm's processes, a request, in `many`.
    """

    one: Load
    many: Load
    cpu_ms: float


Rounds = Mapping[str, Sequence[Measured]]
"""Arm → round by round."""

QUANTILES: tuple[Callable[[Load], float], ...] = (
    lambda load: load.p50_ms,
    lambda load: load.p90_ms,
    lambda load: load.p99_ms,
)


def closed_table(rounds: Rounds) -> Table:
    columns = (
        "served by", "p50, ms, 1 connection", "p90", "p99", "requests/s, 32 connections", "p50, ms", "p90 ",
        "p99 ", "CPU, ms a request", "errors",
    )  # fmt: skip
    return Table("Closed loop", columns, tuple(_row(name, found) for name, found in rounds.items()))


def _row(name: str, found: Sequence[Measured]) -> tuple[Cell, ...]:
    one, many = [each.one for each in found], [each.many for each in found]
    return (
        name,
        *(spread_of(one, quantile) for quantile in QUANTILES),
        _rate(found),
        *(spread_of(many, quantile) for quantile in QUANTILES),
        spread_of(found, lambda each: each.cpu_ms),
        sum(load.errors + load.non_2xx for load in (*one, *many)),
    )


def _rate(found: Sequence[Measured]) -> Spread:
    return spread_of(found, lambda each: each.many.requests_per_s)


def ratios_table(rounds: Rounds) -> Table:
    """Marquee over each other arm, round by round."""
    ours = rounds[FUSED]
    columns = (f"{FUSED} ÷", "p50, 1 connection", f"requests/s, {MANY} connections")
    others = ((name, found) for name, found in rounds.items() if name != FUSED)
    return Table(
        "Ratios",
        columns,
        tuple((name, _p50(ours).over(_p50(f)), _rate(ours).over(_rate(f))) for name, f in others),
    )


def _p50(found: Sequence[Measured]) -> Spread:
    return spread_of(found, lambda each: each.one.p50_ms)


def goals(rounds: Rounds) -> list[Goal]:
    ours = _rate(rounds[FUSED])
    return [
        Goal(
            f"requests/s at {MANY} connections, {FUSED} ÷ {name}",
            ours.over(_rate(rounds[name])),
            "at least",
            reach,
        )
        for name, reach in REACH.items()
        if name in rounds
    ]


def memory_table(memory: Mapping[str, int]) -> Table:
    """`memory`: arm → PSS of its processes, bytes."""
    rows = tuple((name, held / MEGABYTE) for name, held in memory.items())
    return Table("Memory after load, PSS, each arm alone", ("served by", "MB"), rows)
