"""The protocols a stage satisfies, over batches. `tests/contracts` holds every implementation to the laws
stated here, and to this one: a batch equals its singles, within float rounding.

A stage computes; it waits for nothing. `takes` says which of the requests it is for, by the queries alone:
its class answers for a stage that runs on another replica (`serving.build.Elsewhere`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from serving.batch import Candidates, Queries
from serving.types import Explanation, Float32, Mask, Query, Recommendation
from training.models.ragged import Ragged


class Stage(Protocol):
    @property
    def name(self) -> str: ...

    @staticmethod
    def takes(queries: Queries) -> Mask:
        """bool [b]."""
        ...


class Source(Stage, Protocol):
    """Brings candidates, best first, none twice, only eligible ones. `personal` sources need a history or
    user features."""

    @property
    def personal(self) -> bool: ...

    def retrieve(self, queries: Queries) -> Candidates: ...


class Blender(Protocol):
    """Merges what the sources brought: each item once, its source bits joined, scores calibrated to one
    scale, quotas kept, best first. `brought[i]` is what source i brought, None where it was lost for all.
    Pure: nothing is invented."""

    @property
    def name(self) -> str: ...

    def blend(self, queries: Queries, brought: Sequence[Candidates | None]) -> Candidates: ...


class Filter(Stage, Protocol):
    """Says which candidates may stay, bool [n]: True keeps. Pure."""

    def keep(self, queries: Queries, candidates: Candidates) -> Mask: ...


class Hydrator(Stage, Protocol):
    """Adds the columns that it `provides` from those it `requires`; the same rows in the same order."""

    @property
    def provides(self) -> tuple[str, ...]: ...

    @property
    def requires(self) -> tuple[str, ...]: ...

    def hydrate(self, queries: Queries, candidates: Candidates) -> Candidates: ...


class Scorer(Stage, Protocol):
    """float32 [n]: a score of each candidate. One that is not finite is an error, never an order."""

    @property
    def requires(self) -> tuple[str, ...]: ...

    def score(self, queries: Queries, candidates: Candidates) -> Float32: ...


class Selector(Stage, Protocol):
    """Picks of each request's candidates, sorted best first, `count` distinct ones, or all where there are
    fewer: their places in the batch, in the order to show them."""

    def select(self, queries: Queries, candidates: Candidates) -> Ragged[Any]: ...


class Explainer(Stage, Protocol):
    """For each request one explanation of each candidate that is about to be returned, faithful to its
    score."""

    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]: ...


class QueryHydrator(Protocol):
    """Fills in what the store knows of the users, and nothing else."""

    def enabled(self, query: Query) -> bool:
        """Whether it is for this request."""
        ...

    def kept(self, query: Query) -> Query | None:
        """The request, where what the store knows is in memory; None where it has to be read."""
        ...

    async def hydrate(self, queries: Sequence[Query]) -> Sequence[Query]:
        """These requests, in their order, after one online read. Raises what the store raises."""
        ...


class AnswerCache(Protocol):
    """Answers computed before, found again by everything they depend on but the moment: that is for the
    cache to bound."""

    def find(self, query: Query) -> Recommendation | None: ...

    def keep(self, recommendation: Recommendation) -> None: ...


class SideEffect(Protocol):
    """Runs after the response has gone; its failure is counted and otherwise ignored."""

    @property
    def name(self) -> str: ...

    def enabled(self, query: Query) -> bool: ...

    async def record(self, recommendation: Recommendation) -> None: ...
