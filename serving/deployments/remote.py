"""Stages over deployment handles: the same protocols, one hop each.

A proxy knows the version of the bundle that its pipeline was composed for and names it in every call, so that
a replica which holds another one refuses instead of answering about other items. Ids and scores cross, never
embeddings or feature matrices. The executor's timeouts cancel the call, and with it the replica's work.

Does not belong here: Ray (a proxy is given the method to call), and how a replica works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from serving.deployments.hops import SHARE_OF_TIME
from serving.errors import InvalidFilter, ServingError
from serving.observe.tracing import carried
from serving.stages import Stage
from serving.types import CandidateBatch, Explanation, Float32, Query


class SourceFailed(ServingError):
    """A source failed on its replica, while others answered; the text names its error's class."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What the ingress has to know of a remote source."""

    name: str
    personal: bool
    kind: type[Stage]


def _enabled(kind: type[Stage], query: Query) -> bool:
    """Whether a stage of this class takes the query. It reads nothing else, so the class can say it here,
    without the model that an instance holds, and a query that is declined costs no hop."""
    return kind.enabled(cast(Any, None), query)


@dataclass(frozen=True, slots=True)
class Refused:
    """A filter that does not fit the catalogue: the client's mistake, found on the replica. It crosses as a
    value, because `InvalidFilter` does not survive pickling."""

    field: str
    reason: str


Brought = CandidateBatch | Refused | str | None
"""What one source made of a query: a batch, the filter it refused, the class of the error it failed with, or
None where it declined."""

Retrieve = Callable[[str, Query, float], Awaitable[tuple[Brought, ...]]]
"""(version, query, seconds that each source may take) → what each source made of it."""

Score = Callable[[str, Query, CandidateBatch], Awaitable[Float32]]
Select = Callable[[str, Query, CandidateBatch], Awaitable[NDArray[np.intp]]]
Explain = Callable[[str, Query, CandidateBatch], Awaitable[tuple[Explanation, ...]]]


@dataclass(slots=True)
class _InFlight:
    """One call, and how many sources of its request still wait for it."""

    query: Query  # held, so that its id() stays its own
    answer: asyncio.Future[tuple[Brought, ...]]
    waiting: int = 0


@dataclass
class SharedRetrieval:
    """All sources of one request in one hop. The executor asks every source with the same `Query` object;
    the first to ask makes the call, the last to leave, answered or cancelled, ends it."""

    version: str
    call: Retrieve
    budget_s: float
    _in_flight: dict[int, _InFlight] = field(default_factory=dict)

    async def brought(self, query: Query) -> tuple[Brought, ...]:
        shared = self._in_flight.get(id(query))
        if shared is None:
            within_s = SHARE_OF_TIME * min(self.budget_s, query.deadline - time.monotonic())
            answer = asyncio.ensure_future(self.call(self.version, carried(query), within_s))
            shared = self._in_flight[id(query)] = _InFlight(query, answer)
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.answer)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                del self._in_flight[id(query)]
                shared.answer.cancel()

    def __len__(self) -> int:
        """Calls in flight."""
        return len(self._in_flight)


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """Source `position` of the replica."""

    name: str
    personal: bool
    kind: type[Stage]
    position: int
    shared: SharedRetrieval

    def enabled(self, query: Query) -> bool:
        return _enabled(self.kind, query)

    async def retrieve(self, query: Query) -> CandidateBatch:
        brought = (await self.shared.brought(query))[self.position]
        if isinstance(brought, Refused):
            raise InvalidFilter(brought.field, brought.reason)
        if isinstance(brought, str):
            raise SourceFailed(f"{self.name}: {brought}")
        return CandidateBatch.empty() if brought is None else brought


def remote_sources(
    version: str, infos: tuple[SourceInfo, ...], call: Retrieve, budget_s: float
) -> tuple[RemoteSource, ...]:
    """A source for each one of the replica, in its order. `budget_s`: seconds the executor gives a source."""
    shared = SharedRetrieval(version, call, budget_s)
    return tuple(RemoteSource(info.name, info.personal, info.kind, i, shared) for i, info in enumerate(infos))


@dataclass(frozen=True, slots=True)
class _Remote:
    version: str
    kind: type[Stage]

    def enabled(self, query: Query) -> bool:
        return _enabled(self.kind, query)


@dataclass(frozen=True, slots=True)
class RemoteScorer(_Remote):
    """Candidates there, their scores back; features are computed and stay on the replica."""

    call: Score
    name: str = "ranker"

    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_score(await self.call(self.version, carried(query), replace(batch, features=None)))


@dataclass(frozen=True, slots=True)
class RemoteSelector(_Remote):
    call: Select
    name: str = "diversity"

    async def select(self, query: Query, batch: CandidateBatch) -> NDArray[np.intp]:
        return await self.call(self.version, carried(query), replace(batch, features=None))


@dataclass(frozen=True, slots=True)
class RemoteExplainer(_Remote):
    call: Explain
    name: str = "explainer"

    async def explain(self, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        return await self.call(self.version, carried(query), replace(batch, features=None))
