"""Users' rows that were read before and not written since, kept in this process.

A request reads one row, and who asks once asks again: without this, half of an answer from the cache was
waiting for Redis. A row is kept while Redis promises to say when it is written (`features.invalidation`),
which takes as long as a message from Redis to here. Where it does not promise, every row is read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from features.coalesced import CoalescingStore
from features.feast_redis import UserKeys
from features.feast_store import FeastOnlineStore
from features.invalidation import listen
from features.schema import FeatureSchema
from features.store import Column, FeatureBatch, OnlineStore


def online_store(schema: FeatureSchema, redis_url: str, rows: int) -> OnlineStore:
    """What a replica reads with: rows that were read before are kept, up to `rows` of them, and what is asked
    for at the same moment is read as one. Construction opens no connection.

    Raises:
        RedisUrlError: the URL is not one of Redis.
    """
    reading = CoalescingStore(FeastOnlineStore(schema, redis_url))
    return CachingStore(reading, redis_url, rows) if rows else reading


class CachingStore:
    """Implements `features.store.OnlineStore` over another one that reads from Redis. Belongs to the event
    loop that first reads with it."""

    def __init__(self, store: OnlineStore, redis_url: str, rows: int) -> None:
        """Args:
        rows: of users, kept at most, least recently used first out.
        """
        self._store = store
        self._redis_url = redis_url
        self._rows: Final[LRUCache[str, FeatureBatch | object]] = LRUCache(rows)
        """User id → row, or the mark of a read under way."""
        self._keys = UserKeys()
        self._promised = False
        self._listening: asyncio.Task[None] | None = None

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        """Kept are the rows of users asked for one at a time, as requests do."""
        if len(user_ids) != 1:
            return await self._store.read_users(user_ids)
        kept = self._rows.get(user_ids[0])
        return kept if isinstance(kept, FeatureBatch) else await self._read(user_ids[0])

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await self._store.read_items(item_ids)

    async def close(self) -> None:
        self._rows.clear()
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._store.close()

    async def _read(self, user_id: str) -> FeatureBatch:
        """Keeps the row unless it was written, or the promise lost, while it was read: the reply may be older
        than the message about it, which came on another connection."""
        if self._listening is None:
            self._listening = asyncio.create_task(listen(self._redis_url, self._keys.prefix, self))
        mark = object()
        if self._promised:
            self._rows[user_id] = mark
        row = await self._store.read_users([user_id])
        if self._rows.get(user_id) is mark:
            row = self._rows[user_id] = _lasting(row)
        return row

    def heard(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._rows.clear()
            return
        for key in keys:
            self._rows.pop(self._keys.user_id(key), None)

    def listening(self, yes: bool) -> None:
        self._promised = yes
        self._rows.clear()


def _lasting(row: FeatureBatch) -> FeatureBatch:
    """The same row with ids that exist once, in however many users' histories they are: they were half of
    what a row takes. Read with others, a row would also keep all their ids alive."""
    return replace(row, columns={name: _shared(column) for name, column in row.columns.items()})


def _shared(column: Column) -> Column:
    """A column of one cell; one of ids is copied."""
    if column.dtype != np.object_ or not isinstance(column[0], np.ndarray) or column[0].dtype != np.object_:
        return column
    ids: NDArray[np.object_] = np.array([sys.intern(one) for one in column[0]], np.object_)
    shared = np.empty(1, np.object_)
    shared[0] = ids
    return shared
