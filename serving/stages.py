"""The protocols a stage satisfies. `tests/contracts` holds every implementation to the laws stated here.

A stage is bound in process or behind a deployment handle (`remote`); callers cannot tell which.
`enabled` lets a stage decline a query; the executor then passes it over. It reads the query alone, never the
stage's own state: a proxy answers for a stage that lives elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.types import CandidateBatch, Computed, Explanation, Mask, Query, Recommendation


class Stage(Protocol):
    @property
    def name(self) -> str: ...

    def enabled(self, query: Query) -> bool: ...


class QueryHydrator(Stage, Protocol):
    """Fills in what the store knows of the user, with one online read."""

    async def hydrate_query(self, query: Query) -> Query: ...


class Source(Stage, Protocol):
    """Brings candidates, best first, none twice. `personal` sources need a history or user features."""

    @property
    def personal(self) -> bool: ...

    async def retrieve(self, query: Query) -> CandidateBatch: ...


class Blender(Stage, Protocol):
    """Merges what the sources brought: each item once, its source bits joined, scores calibrated to one
    scale, quotas kept, best first. `batches[i]` is what source i brought, None where it was lost or
    declined. Pure."""

    def blend(self, query: Query, batches: Sequence[CandidateBatch | None]) -> CandidateBatch: ...


class Filter(Stage, Protocol):
    """Says which candidates may stay: True keeps. Pure."""

    def keep(self, query: Query, batch: CandidateBatch) -> Mask: ...


class Hydrator(Stage, Protocol):
    """Adds the ranker's features; same length, same order."""

    async def hydrate(self, query: Query, batch: CandidateBatch) -> CandidateBatch: ...


class Scorer(Stage, Protocol):
    """Sets `score`; same length, same order."""

    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch: ...


class Selector(Stage, Protocol):
    """Picks at most `query.count` distinct rows of a batch that is sorted best first, as row indices in
    the order to show them."""

    async def select(self, query: Query, batch: CandidateBatch) -> NDArray[np.intp]: ...


class Explainer(Stage, Protocol):
    """One explanation for each row of a batch that is about to be returned, faithful to its score."""

    async def explain(self, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]: ...


class AnswerCache(Protocol):
    """Keeps whole answers. It may forget any of them at any time; an answer it finds equals the one that
    would be computed, but for what a moment's delay may change."""

    def find(self, query: Query) -> Recommendation | None:
        """An answer kept for an equal query, hydrated like this one. Its query and timings are nobody's."""
        ...

    def keep(self, recommendation: Recommendation) -> None: ...


class Together(Protocol):
    """From retrieval to diversity for queries that wait at the same moment: for each what the stages would
    bring it alone."""

    async def compute(self, query: Query) -> Computed | None:
        """None where the stages should be asked: nobody else waits, or what was tried failed.

        Raises:
            InvalidFilter: the query's filter does not fit the catalogue.
        """
        ...


class SideEffect(Stage, Protocol):
    """Runs after the response has gone; its failure is counted and otherwise ignored."""

    async def record(self, recommendation: Recommendation) -> None: ...
