"""Reasons that are the score: the ranker's own terms, and the history's items behind them.

The terms of an item and a constant add up to its score: an additive ranker's curves (Lou et al. 2013), or
exact Shapley values (`training.models.shapley`). No reason is given that the score does not carry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from serving.batch import Candidates, Queries
from serving.columns import BASE_MODELS, RankingHydrator, base_models, rows_of
from serving.explain.reasons import (
    ANCHOR_FEATURE,
    CHOSEN,
    FAMILY,
    LOW,
    PLAIN,
    RATED,
    nameable,
    outer,
    raising,
    rated_highly,
    strongest_anchors,
)
from serving.parts import Options, Parts
from serving.types import Contribution, Explanation, Float32, History, Int32, Mask
from training.feedback import Feedback
from training.models.linear import ItemModel
from training.models.ranker import Ranker
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class _Anchored:
    """The history's item that a sentence names, and the sentence's form."""

    item: int
    words: str


class RankerExplainer:
    name = "ranker_terms"
    MODELS: ClassVar[Mapping[str, type]] = {**BASE_MODELS, "ranker": Ranker}

    class Settings(Options):
        contributions: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> RankerExplainer:
        base = base_models(spec, parts)
        return cls(
            RankingHydrator(base),
            parts.model(spec, "ranker"),
            {"together": base.linear["ease"], "next": base.linear["sequential"]},
            parts.catalogue.titles,
            cls.Settings.of(spec).contributions,
            parts.feedback,
        )

    def __init__(
        self,
        hydrator: RankingHydrator,
        ranker: Ranker,
        anchors: dict[str, ItemModel],
        titles: Sequence[str],
        terms: int,
        feedback: Feedback,
    ) -> None:
        """Args:
        hydrator: makes the ranker's columns where candidates come without: from a ranker that runs elsewhere.
        anchors: family of `reasons.ANCHOR_FEATURE` → the model that this feature is the score of.
        titles: what a sentence calls item i.
        terms: contributions returned with an item.
        feedback: what values mean.
        """
        self._hydrator = hydrator
        self._ranker = ranker
        self._anchors = anchors
        self._titles = titles
        self._terms = terms
        self._feedback = feedback
        self._outer = tuple(outer(knots) for knots in ranker.knots)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def explain(self, queries: Queries, candidates: Candidates) -> tuple[tuple[Explanation, ...], ...]:
        if not candidates.columns:
            candidates = self._hydrator.hydrate(queries, candidates)
        values = rows_of(candidates, self._ranker.names)
        contributions = self._ranker.contributions(values)
        return tuple(
            self._of_one(
                queries.histories[row], queries.disliked[row], candidates.item_index[at], values[at],
                contributions[at],
            )
            for row, at in enumerate(map(slice, candidates.row_splits[:-1], candidates.row_splits[1:]))
        )  # fmt: skip

    def _of_one(
        self, history: History, disliked: Int32, items: Int32, values: Float32, contributions: Float32
    ) -> tuple[Explanation, ...]:
        said = self._anchored(history, disliked, items, values)
        return tuple(
            self._explain_one(item, values[row], contributions[row], {f: said[f][row] for f in said})
            for row, item in enumerate(items.tolist())
        )

    def _explain_one(
        self, item: int, values: Float32, contributions: Float32, anchored: dict[str, _Anchored | None]
    ) -> Explanation:
        names = self._ranker.names
        strongest = np.argsort(-np.abs(contributions), kind="stable")[: self._terms].tolist()
        terms = tuple(Contribution(names[f], float(values[f]), float(contributions[f])) for f in strongest)
        families = raising(names, contributions)
        for family in families:  # a reason with a name in it tells more than one without: these first
            named = anchored.get(family)
            if named is not None:
                sentence = named.words.format(anchor=self._titles[named.item], item=self._titles[item])
                return Explanation(sentence, named.item, terms)
        plain = (PLAIN[family] for family in families if self._holds(family, values, contributions))
        return Explanation(next(plain, None), None, terms)

    def _anchored(
        self, history: History, disliked: Int32, items: Int32, values: Float32
    ) -> dict[str, list[_Anchored | None]]:
        """Family → for each item the event to name: without its term the ranker's score would be lower."""
        high, may = rated_highly(history), nameable(self._feedback, history, disliked)
        said: dict[str, list[_Anchored | None]] = {}
        for family, model in self._anchors.items():
            anchors = strongest_anchors(model, history, items, may)
            without = values.copy()
            without[:, self._ranker.names.index(ANCHOR_FEATURE[family])] -= anchors.term
            carried = (anchors.term > 0) & (self._ranker.score(without) < self._ranker.score(values))
            said[family] = [
                _Anchored(int(history.item_index[position]), (RATED if high[position] else CHOSEN)[family])
                if holds
                else None
                for position, holds in zip(anchors.position.tolist(), carried.tolist(), strict=True)
            ]
        return said

    def _holds(self, family: str, values: Float32, contributions: Float32) -> bool:
        """Whether the family's plain sentence is true of a value that raises the score."""
        return family in PLAIN and any(
            contribution > 0 and (value < low if name in LOW else value > high)
            for name, value, contribution, (low, high) in zip(
                self._ranker.names, values.tolist(), contributions.tolist(), self._outer, strict=True
            )
            if FAMILY.get(name) == family
        )
