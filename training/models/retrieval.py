"""Candidate generation by the base models, for several users at once.

Serving's sources ask the same functions one source at a time; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from training.models.arrays import Float32, Float64, Int32
from training.models.eligible import Eligible as Eligible  # re-exported: what callers pass and get
from training.models.eligible import Retrieved as Retrieved
from training.models.eligible import top_k as top_k
from training.models.ragged import Ragged
from training.models.scores import Scores
from training.models.statistics import ItemStatistics

SOURCES = ("two_tower", "ease", "sequential", "popular")


def retrieve(
    scores: Scores, statistics: ItemStatistics, now: Float64, eligible: Eligible, sizes: Mapping[str, int]
) -> dict[str, Retrieved]:
    """What each source retrieves. For a user without a history only "popular" retrieves anything.

    Args:
        scores: of b users.
        now: float64 [b], unix seconds.
        sizes: source → items at most; a source that is not named is not asked.
    """
    return {
        name: popular(statistics, now, eligible, sizes[name])
        if name == "popular"
        else personal(scores, name, eligible, sizes[name])
        for name in SOURCES
        if name in sizes
    }


def personal(scores: Scores, name: str, eligible: Eligible, k: int) -> Retrieved:
    """A model's best for each user who has a history."""
    return scores.best(name, eligible, k)


def popular(statistics: ItemStatistics, now: Float64, eligible: Eligible, k: int) -> Retrieved:
    """What everybody chooses lately, at each user's moment."""
    found: list[Int32] = [np.empty(0, np.int32)] * len(now)
    scores: list[Float32] = [np.empty(0, np.float32)] * len(now)
    for users, table in statistics.of_days(now):
        rows = eligible.take(users)
        heads = Ragged(np.tile(table.popular, len(users)), np.arange(len(users) + 1) * len(table.popular))
        allowed = rows.allows(heads).reshape(len(users), -1)
        for row, user in enumerate(users.tolist()):
            best = table.popular[allowed[row]][:k]
            if len(best) < min(k, statistics.n_items) and len(table.popular) < statistics.n_items:
                best = top_k(eligible.take(users[row : row + 1]).of(table.popularity_month[None]), k)[
                    0
                ].values
            found[user], scores[user] = best, table.popularity_month[best]
    return Ragged.of(found, np.int32), np.concatenate([np.empty(0, np.float32), *scores])
