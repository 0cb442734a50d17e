"""The served pipeline's arithmetic without serving: retrieve, blend, rank, one event after another.

For figures right after training; `marquee evaluate` measures the pipeline itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.candidates import BaseModels, allowed
from training.evaluate import Cases
from training.models.arrays import Float32, Int32
from training.models.blend import Blend
from training.models.ranker import AdditiveRanker
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class OfflineRecommender:
    models: BaseModels
    blend: Blend
    ranker: AdditiveRanker
    recipe: Recipe
    name: str = "marquee"

    def recommend(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: `evaluate.Recommender`."""
        features = self.models.features
        found = np.full((len(cases), k), -1, np.int32)
        for case, (history, known, now, items) in enumerate(self._candidates(cases)):
            scores = self.ranker.score(features.compute(history, known, now, items))
            best = items[np.argsort(-scores, kind="stable")[:k]]
            found[case, : len(best)] = best
        return found

    def retrieve(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: the most probable before ranking, `evaluate.Retriever`."""
        found = np.full((len(cases), k), -1, np.int32)
        for case, (*_, items) in enumerate(self._candidates(cases)):
            found[case, : len(items[:k])] = items[:k]
        return found

    def _candidates(self, cases: Cases) -> Iterator[tuple[Int32, Float32, float, Int32]]:
        """History, user features, moment and blended candidates, best first, of each case."""
        retrieval, n_items = self.models.retrieval, cases.data.n_items
        columns = zip(cases.histories(), cases.hidden(), cases.user_features, cases.now, strict=True)
        for history, hidden, known, now in columns:
            free = allowed(n_items, hidden)
            free[cases.data.catalogue.delisted] = False
            brought = retrieval.retrieve(history, known, float(now), free, self.recipe.sizes)
            items, _, _ = self.blend.blend(brought, self.recipe.candidates)
            yield history, known, float(now), items
