"""The read of online features: one for all requests of a batch, or none for a request whose row is in memory.

Does not belong here: what a row means (`serving.hydrators`), and where rows are kept (`features.cached`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.errors import Deadline
from serving.observe import losses
from serving.stages import QueryHydrator
from serving.state import Loss, Timing
from serving.steps import FEATURES
from serving.types import Mask, Query, Recommendation
from training.models.arrays import Int64


@dataclass(frozen=True, slots=True)
class Hydrated:
    """Requests with what is known of their users.

    Attributes:
        queries: all requests of the batch, in its order.
        rows: bool [b], those that this read was for.
        losses, timings: what happened to them before anything was computed.
    """

    queries: tuple[Query, ...]
    rows: Mask
    losses: tuple[Loss, ...]
    timings: tuple[Timing, ...]

    @property
    def whole(self) -> Mask:
        """bool [b]: those of `rows` that lost nothing."""
        whole = self.rows.copy()
        for loss in self.losses:
            whole[loss.rows] = False
        return whole

    def took(self, stage: str, began: float, rows: Mask, candidates: Int64) -> Hydrated:
        """One stage more, which ends now. `candidates`: int64 [b], what it gave each request."""
        seconds = time.monotonic() - began
        timing = Timing(stage, began, seconds, np.zeros(len(rows), np.int64), candidates, rows)
        return replace(self, timings=(*self.timings, timing))

    def then(self, row: int, answer: Recommendation) -> Recommendation:
        """What a request was answered, with what happened to it here."""
        before = {each.stage: each.seconds * 1e3 for each in self.timings if each.rows[row]}
        return replace(
            answer,
            degraded=(*(loss.stage for loss in self.losses if row in loss.rows), *answer.degraded),
            timings_ms={**before, **answer.timings_ms},
        )


def from_memory(hydrator: QueryHydrator | None, query: Query) -> Hydrated | None:
    """A request alone, where nothing has to be read for it; else None."""
    began = time.monotonic()
    if hydrator is not None and hydrator.enabled(query):
        try:
            kept = hydrator.kept(query)
        except Exception:  # it is read, and named where that fails too
            return None
        if kept is None:
            return None
        query = kept
    return _begin((query,), np.ones(1, np.bool_), began, ())


async def read(hydrator: QueryHydrator | None, queries: Sequence[Query], budget_s: float) -> Hydrated:
    """A batch after one read for the requests that need one. Where it fails each is read alone once: a row
    that cannot be read costs one request its features. Takes no longer than the budget or the last deadline.

    Args:
        budget_s: seconds for all of it.
    """
    began, hydrated, lost = time.monotonic(), list(queries), dict[int, Exception]()
    rows = [row for row, query in enumerate(queries) if hydrator is not None and _unread(hydrator, query)]
    for row in rows:
        if queries[row].deadline <= began:
            lost[row] = Deadline(f"nothing was left of the request's time for {FEATURES}")
    end = min(began + budget_s, max((queries[row].deadline for row in rows), default=began))

    async def fill(some: Sequence[int]) -> None:
        assert hydrator is not None
        try:
            async with asyncio.timeout(end - time.monotonic()):
                found = await hydrator.hydrate([queries[row] for row in some])
        except Exception as error:
            if len(some) > 1 and time.monotonic() < end:
                await asyncio.gather(*(fill([row]) for row in some))
            else:
                lost.update(dict.fromkeys(some, error))
            return
        for row, query in zip(some, found, strict=True):
            hydrated[row] = query

    if in_time := [row for row in rows if row not in lost]:
        await fill(in_time)
    mask = np.zeros(len(queries), np.bool_)
    mask[rows] = True
    return _begin(tuple(hydrated), mask, began, _losses(lost))


def _unread(hydrator: QueryHydrator, query: Query) -> bool:
    return query.user_version is None and hydrator.enabled(query)


def _begin(queries: tuple[Query, ...], rows: Mask, began: float, lost: tuple[Loss, ...]) -> Hydrated:
    nothing = np.zeros(len(queries), np.int64)
    return Hydrated(queries, rows, lost, ()).took(FEATURES, began, rows, nothing)


def _losses(lost: dict[int, Exception]) -> tuple[Loss, ...]:
    """One of each kind of error."""
    by_reason: dict[str, list[int]] = {}
    for row, error in lost.items():
        losses.log_first(FEATURES, error)
        by_reason.setdefault(type(error).__name__, []).append(row)
    return tuple(Loss(FEATURES, reason, np.array(rows)) for reason, rows in by_reason.items())
