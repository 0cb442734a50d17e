"""Waits for a Redis that is about to be there, as where both are started at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from features.marker import materialized
from features.store import OnlineStoreError

PAUSE_S = 2.0
"""Seconds between two tries."""

SAID_S = 30.0
"""Seconds between two lines about it."""


def answering(redis_url: str, wait_s: float, said: Callable[[str], None]) -> None:
    """Returns when Redis answers.

    Args:
        wait_s: how long it may take to; 0 asks once.
        said: called with a line at first and then about every `SAID_S`.

    Raises:
        OnlineStoreError: it did not answer in that time.
        RedisUrlError: the URL is not one of Redis.
    """
    until, next_line = time.monotonic() + wait_s, 0.0
    while True:
        try:
            materialized(redis_url)
            return
        except OnlineStoreError as error:
            now = time.monotonic()
            if now >= until:
                raise
            if now >= next_line:
                said(f"waiting up to {until - now:.0f} s more: {error}")
                next_line = now + SAID_S
        time.sleep(PAUSE_S)
