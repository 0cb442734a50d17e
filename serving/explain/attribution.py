"""Reasons that are the score: the additive ranker's own terms, and the history's items behind them.

The terms of an item and the ranker's bias add up to its score exactly (Lou et al. 2013 on additive models),
so nothing is estimated and no reason is given that the score does not carry.
"""

from __future__ import annotations

import numpy as np

from serving.explain.reasons import (
    ANCHOR_FEATURE,
    CHOSEN,
    FAMILY,
    LOW,
    PLAIN,
    RATED,
    Anchor,
    outer,
    raising,
    rated_highly,
    strongest_anchor,
)
from serving.types import CandidateBatch, Contribution, Explanation, Float32, History, Query
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import RankingFeatures


class RankerExplainer:
    name = "additive_terms"

    def __init__(
        self,
        features: RankingFeatures,
        ranker: AdditiveRanker,
        anchors: dict[str, LinearItemModel],
        titles: tuple[str, ...],
        terms: int,
    ) -> None:
        """Args:
        anchors: family of `reasons.ANCHOR_FEATURE` → the model that this feature is the score of.
        titles: what a sentence calls item i.
        terms: contributions returned with an item.
        """
        self._features = features
        self._ranker = ranker
        self._anchors = anchors
        self._titles = titles
        self._terms = terms
        self._outer = tuple(outer(knots) for knots in ranker.knots)

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def explain(self, query: Query, batch: CandidateBatch) -> tuple[Explanation, ...]:
        features = batch.features
        if features is None:  # the ranker runs elsewhere and sent scores only
            features = self._features.compute(
                query.history.item_index, query.user_features, query.now, batch.item_index
            )
        contributions = self._ranker.contributions(features)
        return tuple(
            self._explain_one(query.history, item, features[row], contributions[row])
            for row, item in enumerate(batch.item_index.tolist())
        )

    def _explain_one(
        self, history: History, item: int, values: Float32, contributions: Float32
    ) -> Explanation:
        names = self._features.names
        strongest = np.argsort(-np.abs(contributions), kind="stable")[: self._terms]
        terms = tuple(Contribution(names[f], float(values[f]), float(contributions[f])) for f in strongest)
        families = raising(names, contributions)
        for family in families:  # a reason with a name in it tells more than one without: these first
            anchor = self._anchor(family, history, item, values, contributions)
            if anchor is not None:
                index = int(history.item_index[anchor.position])
                words = RATED if rated_highly(history, anchor.position) else CHOSEN
                sentence = words[family].format(anchor=self._titles[index], item=self._titles[item])
                return Explanation(sentence, index, terms)
        plain = (PLAIN[family] for family in families if self._holds(family, values, contributions))
        return Explanation(next(plain, None), None, terms)

    def _anchor(
        self, family: str, history: History, item: int, values: Float32, contributions: Float32
    ) -> Anchor | None:
        """The event to name: without its term the ranker's score would be lower."""
        if family not in self._anchors:
            return None
        anchor = strongest_anchor(self._anchors[family], history, item)
        if anchor is None:
            return None
        feature = self._features.names.index(ANCHOR_FEATURE[family])
        without = values[None].copy()
        without[0, feature] -= anchor.term
        carried = self._ranker.contributions(without)[0, feature] < contributions[feature]
        return anchor if carried else None

    def _holds(self, family: str, values: Float32, contributions: Float32) -> bool:
        """Whether the family's plain sentence is true of a value that raises the score."""
        return family in PLAIN and any(
            contribution > 0 and (value < low if name in LOW else value > high)
            for name, value, contribution, (low, high) in zip(
                self._features.names, values.tolist(), contributions.tolist(), self._outer, strict=True
            )
            if FAMILY.get(name) == family
        )
