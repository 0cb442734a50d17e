"""What the base models say of some users, each computed once, however many stages read it.

Retrieval looks for the best of it and the ranker's features look up the candidates. Does not belong here:
what is done with scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from training.models.arrays import Float32
from training.models.eligible import Eligible, Retrieved, top_k
from training.models.index import nearest
from training.models.linear import WHOLE_ROWS, ItemModel
from training.models.neighbours import NeighbourModel
from training.models.ragged import Items, Ragged, splits
from training.models.statistics import ItemStatistics
from training.models.two_tower.model import TwoTowerScorer

LONG_HALF_LIFE = 30.0
"""Events after which an event counts half in `ease_long`: taste at large, beside the mood of `ease`."""

LONG_HISTORY = 150
"""Events it reads; the last of them weighs 3 %, and each costs a row of a matrix."""


@dataclass(frozen=True, slots=True)
class BaseModels:
    """The models that retrieval and the ranker's features share, all fitted on the same events."""

    two_tower: TwoTowerScorer
    linear: dict[str, ItemModel]
    statistics: ItemStatistics

    @classmethod
    def of(
        cls,
        two_tower: TwoTowerScorer,
        ease: ItemModel,
        sequential: ItemModel,
        statistics: ItemStatistics,
    ) -> Self:
        long = ease.faded(LONG_HALF_LIFE, LONG_HISTORY)
        return cls(two_tower, {"ease": ease, "sequential": sequential, "ease_long": long}, statistics)

    @property
    def n_items(self) -> int:
        return len(self.two_tower.item_vectors)


class Scores:
    """Of b users, by the models that need a history."""

    def __init__(self, models: BaseModels, histories: Items, user_features: Float32) -> None:
        """Args:
        histories: oldest first, b rows.
        user_features: float32 [b, user_width]; zeros where they are not known.
        """
        self._models, self.histories, self._user_features = models, histories, user_features
        self._whole: dict[str, Float32] = {}

    @cached_property
    def user_vectors(self) -> Float32:
        """float32 [b, d], unit rows, scaled so that products with item vectors are logits."""
        tower = self._models.two_tower
        return np.float32(tower.scale) * tower.user_vectors(self.histories, self._user_features)

    def of_all(self, name: str) -> Float32:
        """float32 [b, n] of a model; read it, never write."""
        if name not in self._whole:
            self._whole[name] = self._compute(name)
            self._whole[name].flags.writeable = False
        return self._whole[name]

    def of(self, name: str, candidates: Items) -> Float32:
        """float32 [m]: of each user's candidates."""
        found: Float32
        if name in self._whole or self._models.n_items <= WHOLE_ROWS:
            found = self.of_all(name)[candidates.row, candidates.values]
        elif name == "two_tower":
            vectors = self._models.two_tower.item_vectors[candidates.values]
            found = np.einsum("md,md->m", self.user_vectors[candidates.row], vectors)
        else:
            found = self._models.linear[name].scores_of(self.histories, candidates)
        return found

    def best(self, name: str, eligible: Eligible, k: int) -> Retrieved:
        """A model's `k` best of what each user with a history may be shown, best first."""
        model = self._models.linear.get(name)
        if isinstance(model, NeighbourModel):
            return model.best(self.histories, eligible, k)
        if name == "two_tower" and self._models.two_tower.index is not None:
            return self._nearest(eligible, k)
        of_all = eligible.of(self.of_all(name))
        of_all[self.histories.lengths == 0] = -np.inf
        return top_k(of_all, k)

    def _nearest(self, eligible: Eligible, k: int) -> Retrieved:
        """Of users with a history, the others have none."""
        known = np.flatnonzero(self.histories.lengths > 0)
        index = self._models.two_tower.index
        assert index is not None
        items, score = nearest(index, self.user_vectors[known], eligible.take(known), k)
        lengths = np.zeros(len(self.histories), np.int64)
        lengths[known] = items.lengths
        return Ragged(items.values, splits(lengths)), score

    def _compute(self, name: str) -> Float32:
        if name == "two_tower":
            logits: Float32 = self.user_vectors @ self._models.two_tower.item_vectors.T
            return logits
        return self._models.linear[name].scores(self.histories)
