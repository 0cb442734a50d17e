"""What the ranker sees of a candidate: the retrievers' scores and the item's own statistics.

The same function builds training lists and serves requests. Pointwise: an item's row depends on the user,
the moment and the item, never on the other candidates, so any stage may compute any subset again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.models.arrays import Float32, Int32, Int64
from training.models.linear import LinearItemModel
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer

LONG_HALF_LIFE = 30.0
"""Events after which an event counts half in `ease_long`: taste at large, beside the mood of `ease`."""

LONG_HISTORY = 150
"""Events it reads; the last of them weighs 3 %, and each costs a row of a matrix."""


class RankingFeatures:
    names: tuple[str, ...] = (
        "two_tower",
        "ease",
        "sequential",
        "ease_long",
        "mean_value",
        "popularity_all",
        "popularity_week",
        "age",
        "idle",
    )

    def __init__(
        self,
        two_tower: TwoTowerScorer,
        ease: LinearItemModel,
        sequential: LinearItemModel,
        statistics: ItemStatistics,
    ) -> None:
        self._two_tower, self._statistics = two_tower, statistics
        self._linear = (ease, sequential, replace(ease, half_life=LONG_HALF_LIFE, history=LONG_HISTORY))

    def compute(self, history: Int32, user_features: Float32 | None, now: float, items: Int32) -> Float32:
        """float32 [c, f], columns as `names`. 0.35 ms for 500 candidates and 150 events, on one thread.

        Args:
            history: int32 [h], oldest first, may be empty.
            user_features: float32 [user_width]; None where they are not known.
            now: unix seconds.
            items: int32 [c].
        """
        user = np.float32(self._two_tower.scale) * self._two_tower.user_vector(history, user_features)
        known = self._statistics.at(now)
        columns = (
            self._two_tower.item_vectors[items] @ user,
            *(model.score_items(history, items) for model in self._linear),
            known.mean_value[items],
            known.popularity_all[items],
            known.popularity_week[items],
            known.age[items],
            known.idle[items],
        )
        return np.stack(columns).T  # a column at a time is how curves read it

    def compute_rows(
        self,
        histories: Sequence[Int32],
        user_features: Sequence[Float32 | None],
        now: float,
        row: Int64,
        items: Int32,
    ) -> Float32:
        """`compute` for several users at one moment, in few calls for all of them: float32 [c, f], candidate
        i being item `items[i]` for user `row[i]`. Scores the whole catalogue for every user."""
        known, n = self._statistics.at(now), len(self._two_tower.item_vectors)
        user = np.stack(
            [self._two_tower.user_vector(*each) for each in zip(histories, user_features, strict=True)]
        )
        of_all = (
            np.float32(self._two_tower.scale) * user @ self._two_tower.item_vectors.T,
            *(np.stack([model.score(history) for history in histories]) for model in self._linear),
        )
        place = row * n + items
        columns = (
            *(scores.ravel().take(place) for scores in of_all),
            known.mean_value[items],
            known.popularity_all[items],
            known.popularity_week[items],
            known.age[items],
            known.idle[items],
        )
        return np.stack(columns).T
