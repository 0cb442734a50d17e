"""The ranker as stages: its features as a hydrator, its additive score as a scorer. The computations are
the ones training used (`training.models`)."""

from __future__ import annotations

from serving.types import CandidateBatch, Query
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import RankingFeatures


class RankingHydrator:
    name = "ranking_features"

    def __init__(self, features: RankingFeatures) -> None:
        self._features = features

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def hydrate(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        return batch.with_features(
            self._features.compute(query.history.item_index, query.user_features, query.now, batch.item_index)
        )


class AdditiveScorer:
    """Declines users without a history: it was trained on none, and popularity serves them better."""

    name = "additive"

    def __init__(self, ranker: AdditiveRanker) -> None:
        self._ranker = ranker

    def enabled(self, query: Query) -> bool:
        return len(query.history) > 0

    async def score(self, query: Query, batch: CandidateBatch) -> CandidateBatch:
        if batch.features is None:
            raise ValueError("the batch has no features; hydrate it first")
        return batch.with_score(self._ranker.score(batch.features))
