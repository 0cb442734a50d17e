"""The steps of a pipeline: a stage each, with its invariants, its budget, and what is left without it.

Does not belong here: order, clock and threads (`serving.pipeline`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from serving import invariants
from serving.batch import Candidates
from serving.stages import Blender, Explainer, Filter, Hydrator, Scorer, Selector, Source
from serving.state import State
from serving.types import Mask
from training.models.arrays import Int64
from training.models.ragged import heads, ranked, splits

RETRIEVAL, RANKING, DIVERSIFYING, EXPLAINING = "retrieval", "ranking", "diversity", "explain"
"""The stages, as a configuration places them. Retrieval is all sources, the blend and the filters."""

FEATURES, SOURCE, BLEND, FILTER = "features", "source:", "blend", "filter"
RANKER, DIVERSITY, EXPLAINER = "ranker", "diversity", "explainer"
"""What `degraded` and metrics call each part; sources are named one by one, SOURCE before each name."""


class Step(ABC):
    """Attributes:
    stage: which of the stages it belongs to.
    name: in `degraded`, `timings` and metrics.
    budget_s: seconds for a batch; what takes longer is left out.
    """

    stage: ClassVar[str]
    name: str
    budget_s: float

    @abstractmethod
    def takes(self, state: State) -> Mask:
        """bool [b]: the requests that it is for."""

    @abstractmethod
    def run(self, state: State) -> State:
        """What becomes of requests that it is for. Raises what the stage raises, or InvariantViolation."""

    def without(self, state: State) -> State:
        """What becomes of requests that lost it: by default they go on as they are."""
        return state

    def declined(self, state: State) -> State | None:
        """What becomes of requests that it is not for; None where they go on as they are."""
        return None

    def count(self, state: State) -> Int64:
        """int64 [b]: candidates, as metrics count them before and after."""
        return state.candidates.lengths


@dataclass(frozen=True)
class Retrieve(Step):
    """Source `bit` of the pipeline."""

    stage = RETRIEVAL
    source: Source
    bit: int
    budget_s: float

    @property
    def name(self) -> str:  # type: ignore[override]  # where the base has a field
        return f"{SOURCE}{self.source.name}"

    def takes(self, state: State) -> Mask:
        return self.source.takes(state.queries)

    def run(self, state: State) -> State:
        found = invariants.brought(self.source.retrieve(state.queries), len(state), self.source.name)
        return self._bring(state, found.with_source(self.bit))

    def count(self, state: State) -> Int64:
        found = state.brought[self.bit]
        return np.zeros(len(state), np.int64) if found is None else found.lengths

    def _bring(self, state: State, found: Candidates) -> State:
        contributed = state.contributed | (found.lengths > 0).astype(np.uint32) << np.uint32(self.bit)
        brought = (*state.brought[: self.bit], found, *state.brought[self.bit + 1 :])
        return replace(state, brought=brought, contributed=contributed)


@dataclass(frozen=True)
class Blend(Step):
    """One list a request. A blender that fails leaves what the first source brought that brought anything."""

    stage = RETRIEVAL
    blender: Blender
    budget_s: float
    name: str = BLEND

    def takes(self, state: State) -> Mask:
        return state.contributed > 0

    def run(self, state: State) -> State:
        found = self.blender.blend(state.queries, state.brought)
        return self._blended(state, invariants.brought(found, len(state), self.blender.name))

    def without(self, state: State) -> State:
        left, parts = np.arange(len(state)), []
        for found in state.brought:
            if found is None:
                continue
            has = left[found.lengths[left] > 0]
            parts.append((has, found.take(has)))
            left = np.setdiff1d(left, has)
        parts.append((left, Candidates.empty(len(left))))
        return self._blended(state, Candidates.join(parts, len(state)))

    def _blended(self, state: State, candidates: Candidates) -> State:
        return replace(state, candidates=candidates, brought=(None,) * len(state.brought))

    def count(self, state: State) -> Int64:
        lengths = [found.lengths for found in state.brought if found is not None]
        return np.sum(lengths, axis=0) if lengths else state.candidates.lengths


@dataclass(frozen=True)
class Keep(Step):
    """What every filter keeps. It fails closed: an item that could not be checked is not shown."""

    stage = RETRIEVAL
    filters: tuple[Filter, ...]
    budget_s: float
    name: str = FILTER

    def takes(self, state: State) -> Mask:
        return state.candidates.lengths > 0

    def run(self, state: State) -> State:
        keep = np.ones(len(state.candidates.item_index), np.bool_)
        for each in self.filters:
            keep &= invariants.a_mask(each.keep(state.queries, state.candidates), len(keep), each.name)
        return replace(state, candidates=state.candidates.keep(keep))

    def without(self, state: State) -> State:
        emptied = replace(state, candidates=Candidates.empty(len(state)))
        return emptied.refuse(np.arange(len(state)), f"{FILTER} failed")


@dataclass(frozen=True)
class Rank(Step):
    """Best first by the ranker's score; in retrieval order where it was lost."""

    stage = RANKING
    hydrators: tuple[Hydrator, ...]
    scorer: Scorer
    budget_s: float
    name: str = RANKER

    def takes(self, state: State) -> Mask:
        return self.scorer.takes(state.queries) & (state.candidates.lengths > 0)

    def run(self, state: State) -> State:
        candidates = state.candidates
        for hydrator in self.hydrators:
            hydrated = hydrator.hydrate(state.queries, candidates)
            candidates = invariants.same_items(candidates, hydrated, hydrator.name)
        score = self.scorer.score(state.queries, candidates)
        score = invariants.finite(score, len(candidates.item_index), self.scorer.name)
        order = ranked(candidates.row, score)
        best = candidates.with_score(score).pick(order, candidates.row_splits)
        return replace(state, candidates=best)


@dataclass(frozen=True)
class Select(Step):
    """At most `count` of each request: the selector's choice, or the best where there is none or it was
    lost."""

    stage = DIVERSIFYING
    selector: Selector | None
    budget_s: float
    name: str = DIVERSITY

    def takes(self, state: State) -> Mask:
        if self.selector is None:
            return np.zeros(len(state), np.bool_)
        return self.selector.takes(state.queries) & (state.candidates.lengths > 0)

    def run(self, state: State) -> State:
        assert self.selector is not None
        candidates = state.candidates
        chosen = self.selector.select(state.queries, candidates)
        places = invariants.a_choice(chosen, candidates, state.queries.count, self.selector.name)
        return replace(state, candidates=candidates.pick(places.values, places.row_splits))

    def declined(self, state: State) -> State:
        return self.without(state)

    def without(self, state: State) -> State:
        candidates, count = state.candidates, state.queries.count.astype(np.int64)
        top = heads(candidates.row_splits, count)
        return replace(state, candidates=candidates.pick(top, splits(np.minimum(candidates.lengths, count))))


@dataclass(frozen=True)
class Explain(Step):
    """Reasons for what is returned. Without a ranker's score there is nothing to explain."""

    stage = EXPLAINING
    explainer: Explainer
    budget_s: float
    name: str = EXPLAINER

    def takes(self, state: State) -> Mask:
        wanted = state.queries.explain & self.explainer.takes(state.queries)
        return wanted & state.candidates.ranked

    def run(self, state: State) -> State:
        explained = self.explainer.explain(state.queries, state.candidates)
        invariants.one_each(explained, state.candidates, self.explainer.name)
        return replace(state, explanations=explained)
