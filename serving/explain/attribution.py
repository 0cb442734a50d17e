"""Reasons that are the score: the additive ranker's own terms, and the history's items behind them.

The terms of an item and the ranker's bias add up to its score exactly (Lou et al. 2013 on additive models),
so nothing is estimated and no reason is given that the score does not carry.
"""

from __future__ import annotations

import numpy as np

from serving.explain.reasons import ANCHORED, PLAIN, did, families, spoken_for, strongest_anchor
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
        anchors: family of `reasons.ANCHORED` → the model whose terms name the history's items.
        titles: what a sentence calls item i.
        terms: contributions returned with an item.
        """
        self._features = features
        self._ranker = ranker
        self._anchors = anchors
        self._titles = titles
        self._terms = terms

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
        share = families(names, contributions)
        family = spoken_for(share, frozenset(self._anchors))
        if family in self._anchors:
            position = strongest_anchor(self._anchors[family], history, item)
            if position is not None:
                anchor = int(history.item_index[position])
                sentence = ANCHORED[family].format(
                    did=did(history, position), anchor=self._titles[anchor], item=self._titles[item]
                )
                return Explanation(sentence, anchor, terms)
            family = spoken_for({f: v for f, v in share.items() if f not in self._anchors}, frozenset())
        return Explanation(PLAIN.get(family) if family else None, None, terms)
