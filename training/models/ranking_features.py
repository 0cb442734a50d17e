"""What the ranker sees of a candidate: the retrievers' scores and the item's own statistics.

The same function builds training lists and serves requests. Pointwise: an item's row depends on the user,
the moment and the item, never on the other candidates, so any stage may compute any subset again.
"""

from __future__ import annotations

import numpy as np

from training.models.arrays import Float32, Float64
from training.models.ragged import Items
from training.models.scores import Scores
from training.models.statistics import ItemStatistics

SCORED = ("two_tower", "ease", "sequential", "ease_long")
KNOWN = ("mean_value", "popularity_all", "popularity_week", "age", "idle")
NAMES = SCORED + KNOWN
"""Columns of a row, in order."""


def ranking_features(scores: Scores, statistics: ItemStatistics, now: Float64, candidates: Items) -> Float32:
    """float32 [m, f], columns as `NAMES`.

    Args:
        scores: of b users.
        now: float64 [b], unix seconds.
        candidates: m items of these users.
    """
    rows = np.empty((len(NAMES), len(candidates.values)), np.float32)  # a column at a time is how curves read
    for column, name in enumerate(SCORED):
        rows[column] = scores.of(name, candidates)
    for users, table in statistics.of_days(now):
        where = slice(None) if len(users) == len(now) else np.isin(candidates.row, users)
        items = candidates.values[where]
        for column, name in enumerate(KNOWN, len(SCORED)):
            rows[column, where] = getattr(table, name)[items]
    return rows.T
