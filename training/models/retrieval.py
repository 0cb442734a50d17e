"""Candidate generation as one function, for building training lists and evaluating offline.

Serving asks the same models through its own asynchronous sources; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.models.arrays import Float32, Int32, Mask
from training.models.linear import LinearItemModel
from training.models.statistics import ItemStatistics
from training.models.two_tower import TwoTowerScorer

SOURCES = ("two_tower", "ease", "sequential", "popular")

Retrieved = tuple[Int32, Float32]
"""Items and their scores on the source's own scale, best first."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    two_tower: TwoTowerScorer
    ease: LinearItemModel
    sequential: LinearItemModel
    statistics: ItemStatistics

    def retrieve(
        self,
        history: Int32,
        user_features: Float32 | None,
        now: float,
        allowed: Mask,
        sizes: Mapping[str, int],
    ) -> dict[str, Retrieved]:
        """What each source brings. Without a history only "popular" brings anything.

        Args:
            history: int32 [h], oldest first.
            user_features: float32 [user_width]; None where they are not known.
            now: unix seconds.
            allowed: bool [n]; False for items seen, or hidden otherwise.
            sizes: source → items at most; a source that is not named is not asked.
        """
        return {
            name: top_k(self._scores(name, history, user_features, now), sizes[name], allowed)
            for name in SOURCES
            if name in sizes and (name == "popular" or len(history))
        }

    def _scores(self, name: str, history: Int32, user_features: Float32 | None, now: float) -> Float32:
        """float32 [n]."""
        if name == "two_tower":
            return self.two_tower.logits(history, user_features)
        if name == "popular":
            return self.statistics.at(now).popularity_month
        return (self.ease if name == "ease" else self.sequential).score(history)


def top_k(scores: Float32, k: int, allowed: Mask) -> Retrieved:
    """The `k` highest of the allowed items, or all of them: best first, ties by lower index."""
    pool = np.flatnonzero(allowed)
    values = scores[pool]
    if 0 < k < len(pool):  # only what reaches the k-th value is worth sorting
        enough = values >= np.partition(values, len(pool) - k)[len(pool) - k]
        pool, values = pool[enough], values[enough]
    best = np.argsort(-values, kind="stable")[:k]
    return pool[best].astype(np.int32), values[best]
