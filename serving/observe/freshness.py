"""How old the online features are, and whether their store answers: looked at now and then, for metrics.

Does not belong here: the features of one user, whose age is that of the user's newest event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from features.marker import materialized_at
from features.store import OnlineStoreError

log = logging.getLogger(__name__)

PERIOD_S = 30.0
"""Seconds between two looks. An alert waits for minutes, and a look costs Redis one connection."""


class FreshnessRecorder(Protocol):
    def online_store(self, up: bool, materialized_at: float | None) -> None:
        """One look at the store. `materialized_at`: unix seconds, None where it is not known."""
        ...


async def watch(redis_url: str, recorder: FreshnessRecorder, period_s: float = PERIOD_S) -> None:
    """Looks until it is cancelled, in a worker thread: every look is bounded by the client's timeouts."""
    up = True
    while True:
        try:
            recorder.online_store(True, await asyncio.to_thread(materialized_at, redis_url))
            up = True
        except OnlineStoreError as error:
            recorder.online_store(False, None)
            if up:  # once an outage: the metric says how long it lasts
                log.warning("the online store does not answer: %s", error)
            up = False
        await asyncio.sleep(period_s)
