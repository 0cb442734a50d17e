"""Micro-batching: queries that wait at the same moment are computed as one.

A query that is alone, or unlike most, is left to the stages, and so is every one of a group whose computation
failed: there the executor's policy finds out whose fault it was.

Does not belong here: what is computed (`serving.vectorised`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from features.gathering import Gathering
from serving.types import Computed, Mask, Query

log = logging.getLogger(__name__)

LARGEST = 32
"""Queries computed as one: about 20 ms on one core, during which the replica does nothing else. With 16 it
answers a tenth fewer a second."""

_Waiting = tuple[Query, Mask, "asyncio.Future[Computed | None]"]


class Compute(Protocol):
    """Satisfied by `serving.vectorised.Vectorised`."""

    eligible: Callable[[Query], Mask]

    def takes(self, query: Query) -> bool: ...

    def compute(self, queries: Sequence[Query], allowed: Sequence[Mask]) -> list[Computed]: ...


class MicroBatcher:
    """Within one event loop. Bounded by the callers in flight: each waits for one answer."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._gathering = Gathering(self._depart, LARGEST)

    async def compute(self, query: Query) -> Computed | None:
        """None where the stages should be asked instead.

        Raises:
            InvalidFilter: the query's filter does not fit the catalogue.
        """
        if not self._compute.takes(query):
            return None
        allowed = self._compute.eligible(query)
        answer: asyncio.Future[Computed | None] = asyncio.get_running_loop().create_future()
        self._gathering.join((query, allowed, answer))
        return await answer

    def _depart(self, group: list[_Waiting]) -> None:
        """Answers who is still there, and in time."""
        now = time.monotonic()
        there = [each for each in group if not each[2].done()]
        in_time = [each for each in there if now < each[0].deadline]
        for (_, _, answer), computed in zip(in_time, self._computed(in_time), strict=True):
            answer.set_result(computed)
        for _, _, answer in there:
            if not answer.done():
                answer.set_result(None)

    def _computed(self, group: Sequence[_Waiting]) -> Sequence[Computed | None]:
        if len(group) > 1:
            try:
                return self._compute.compute([each[0] for each in group], [each[1] for each in group])
            except Exception:
                log.warning("%d queries could not be computed as one", len(group), exc_info=True)
        return [None] * len(group)
