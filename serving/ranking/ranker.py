"""The additive ranker as a scorer."""

from __future__ import annotations

from dataclasses import dataclass

from serving.batch import Candidates, Queries
from serving.columns import rows_of
from serving.types import Float32, Mask
from training.models.ranker import AdditiveRanker


@dataclass(frozen=True, slots=True)
class AdditiveScorer:
    """Is not for users without a history: it was trained on none, and popularity serves them better."""

    ranker: AdditiveRanker
    name: str = "additive"

    @property
    def requires(self) -> tuple[str, ...]:
        return self.ranker.names

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return queries.with_history

    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        return self.ranker.score(rows_of(candidates, self.ranker.names))
