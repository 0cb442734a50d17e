"""Answers computed before, found again by everything they depend on.

The key holds the version of the user's feature row: an event of the user changes the row, and with it the
key, so nothing has to be told to forget. A cache belongs to one pipeline of one bundle and goes with it.
Does not belong here: what may be kept (the executor keeps whole answers only).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import replace

from cachetools import TTLCache
from pydantic_core import to_json

from serving.config import CacheConfig
from serving.types import Query, Recommendation

NOBODY = Query(request_id="", user_id=None, now=0.0, deadline=0.0, count=0)
"""Stands in kept answers for the query, whose history would take more room than the answer."""


class LatestAnswers:
    """Implements `serving.stages.AnswerCache` over cachetools' TTLCache, least recently used first out. For
    one event loop."""

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        clock: seconds, never going back.
        """
        self._kept: TTLCache[Hashable, Recommendation] = TTLCache(
            config.items, config.ttl_s, timer=clock, getsizeof=_items
        )

    def find(self, query: Query) -> Recommendation | None:
        key = _key(query)
        return None if key is None else self._kept.get(key)

    def keep(self, recommendation: Recommendation) -> None:
        """An answer larger than the whole cache is not kept."""
        key = _key(recommendation.query)
        if key is not None and _items(recommendation) <= self._kept.maxsize:
            self._kept[key] = replace(recommendation, query=NOBODY, timings_ms={})


def _items(recommendation: Recommendation) -> int:
    """The room an answer takes; an empty one takes some too."""
    return max(1, len(recommendation.shown))


def _key(query: Query) -> Hashable | None:
    """Everything an answer depends on but the moment; None for a query whose answer is not worth keeping: a
    session is never seen twice, and a user whose row was not read is not known."""
    if query.session or (query.user_id is not None and query.user_version is None):
        return None
    return (
        query.user_id,
        query.user_version,
        query.count,
        query.seen,
        query.diversity,
        query.explain,
        query.items.tobytes(),
        query.exclude.tobytes(),
        to_json(query.filter) if query.filter else None,
        to_json(query.context) if query.context else None,
    )
