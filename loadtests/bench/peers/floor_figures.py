"""From the floor's medians to its table and its goal. Pure: no server, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtests.bench.peers.arms import BARE, FUSED, NOOP
from loadtests.bench.peers.figures import PIPELINE
from loadtests.bench.result import Goal, Spread, Table

Found = Mapping[str, Sequence[float]]
"""Arm, or the pipeline in process → p50 of each round, ms."""

REACH = 1.5
"""No-ops that a request may take beyond its pipeline."""


def table(found: Found) -> Table:
    columns = ("one connection", "p50, ms", "(p50 - p50 in process) ÷ p50 of the no-op")
    rows = [
        (name, Spread(tuple(found[name])), "" if name in (PIPELINE, NOOP) else _beyond(found, name))
        for name in (PIPELINE, NOOP, BARE, FUSED)
    ]
    return Table("One request", columns, tuple(rows))


def goal(found: Found) -> Goal:
    return Goal(
        f"{BARE}: (p50 over HTTP - p50 in process) ÷ p50 of a Ray Serve no-op",
        _beyond(found, BARE),
        "at most",
        REACH,
        f"neither reads requests nor writes answers, so that no interface can take less; {FUSED}, with one, "
        f"takes {_beyond(found, FUSED).median:.2f} in the same rounds",
    )


def _beyond(found: Found, name: str) -> Spread:
    alone, unit = Spread(tuple(found[PIPELINE])), Spread(tuple(found[NOOP]))
    return Spread(tuple(found[name])).minus(alone).over(unit)
