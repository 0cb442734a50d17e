"""The served pipeline's arithmetic without serving: retrieve, blend, rank, some events at a time.

For figures right after training; `marquee evaluate` measures the pipeline itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.candidates import BATCH, retrieved_by
from training.cases import Cases
from training.models.arrays import Float64, Int32
from training.models.blend import Blend
from training.models.ragged import Items, Ragged, ranked
from training.models.ranker import Ranker
from training.models.ranking_features import ranking_features
from training.models.retrieval import Eligible
from training.models.scores import BaseModels, Scores
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class OfflineRecommender:
    models: BaseModels
    blend: Blend
    ranker: Ranker
    recipe: Recipe
    name: str = "marquee"

    def recommend(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: `evaluate.Recommender`."""
        found = []
        for scores, now, items in self._candidates(cases):
            score = self.ranker.score(ranking_features(scores, self.models.statistics, now, items))
            best = ranked(items.row, score)
            found.append(_table(Ragged(items.values[best], items.row_splits), k))
        return np.concatenate(found)

    def retrieve(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: the most probable before ranking, `evaluate.Retriever`."""
        return np.concatenate([_table(items, k) for *_, items in self._candidates(cases)])

    def _candidates(self, cases: Cases) -> Iterator[tuple[Scores, Float64, Items]]:
        """Scores, moments and blended candidates, best first, of some cases at a time."""
        data = cases.data
        shown = np.ones(data.n_items, bool)
        shown[data.catalogue.delisted] = False
        for start in range(0, len(cases), BATCH):
            at = cases.positions[start : start + BATCH]
            scores = Scores(self.models, data.histories(at), data.user_features[at])
            now = data.events.timestamp[at].astype(np.float64)
            eligible = Eligible.all_but(data.hidden_before(at), shown)
            found = retrieved_by(self.recipe, scores, self.models.statistics, now, eligible)
            yield scores, now, self.blend.blend(found, self.recipe.candidates)[0]


def _table(items: Items, k: int) -> Int32:
    """int32 [b, k]: the first k of every row, then -1."""
    place = items.row_splits[:-1, None] + np.arange(k)
    there = place < items.row_splits[1:, None]
    padded = np.append(items.values, np.int32(-1))
    return np.where(there, padded[np.where(there, place, -1)], np.int32(-1))
