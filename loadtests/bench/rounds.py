"""Arms measured in turn, round after round, so that a slow minute of the machine hits all of them alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from loadtests.bench.result import Spread

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        quick: the short form, which shows that a suite runs; its figures mean little.
        rounds: of all arms in turn.
        seconds: of load for one arm in one round.
        repeats: calls of a function for one arm in one round.
    """

    quick: bool
    rounds: int
    seconds: float
    repeats: int


FULL = Effort(quick=False, rounds=5, seconds=3.0, repeats=200)
QUICK = Effort(quick=True, rounds=1, seconds=1.0, repeats=5)


def in_turn(arms: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each arm gave in each round. Every second round runs backwards, so that no arm is always the one
    that follows a given other."""
    found: dict[str, list[T]] = {name: [] for name in arms}
    for turn in range(rounds):
        order = list(arms) if turn % 2 == 0 else list(arms)[::-1]
        for name in order:
            log.info("round %d of %d: %s", turn + 1, rounds, name)
            found[name].append(arms[name]())
    return found


def spread_of(found: Sequence[T], figure: Callable[[T], float]) -> Spread:
    return Spread(tuple(figure(one) for one in found))


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """The median wall time of one call, seconds, after one call that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]
