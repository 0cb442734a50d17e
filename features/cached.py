"""Users' rows that were read before and not written since, kept in this process.

A user who is answered once is mostly answered again soon: without this, half of an answer from the cache was
waiting for Redis. A row is kept while Redis tracks the writes to it (`features.invalidation`),
which takes as long as a message from Redis to here. Where it does not, every row is read.
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

from features.feast_redis import UserKeys
from features.feast_store import FeastOnlineStore
from features.invalidation import listen
from features.schema import FeatureSchema
from features.store import Column, FeatureBatch, OnlineStore


def online_store(schema: FeatureSchema, redis_url: str, rows: int) -> OnlineStore:
    """What a replica reads with; up to `rows` rows that were read before are kept. Opens no connection.

    Raises:
        RedisUrlError: the URL is not one of Redis.
    """
    store = FeastOnlineStore(schema, redis_url)
    return CachingStore(store, redis_url, rows) if rows else store


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
        self._tracked = False
        self._listening: asyncio.Task[None] | None = None

    def kept(self, user_id: str) -> FeatureBatch | None:
        row = self._rows.get(user_id)
        return row if isinstance(row, FeatureBatch) else None

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        """In one read those that are not kept."""
        rows = {one: row for one in user_ids if (row := self.kept(one)) is not None}
        if missing := [one for one in dict.fromkeys(user_ids) if one not in rows]:
            rows |= await self._read(missing)
        if not rows:
            return await self._store.read_users([])
        return FeatureBatch.join([rows[one] for one in user_ids])

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await self._store.read_items(item_ids)

    async def close(self) -> None:
        self._rows.clear()
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._store.close()

    async def _read(self, user_ids: Sequence[str]) -> dict[str, FeatureBatch]:
        """Keeps each row unless it was written, or its tracking lost, while it was read: the reply may be
        older than the message about it, which came on another connection."""
        if self._listening is None:
            self._listening = asyncio.create_task(listen(self._redis_url, self._keys.prefix, self))
        mark = object()
        if self._tracked:
            self._rows.update(dict.fromkeys(user_ids, mark))
        batch = await self._store.read_users(user_ids)
        rows = {one: batch.take([at]) for at, one in enumerate(user_ids)}
        for one, row in rows.items():
            if self._rows.get(one) is mark:
                rows[one] = self._rows[one] = _lasting(row)
        return rows

    def on_written(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._rows.clear()
            return
        for key in keys:
            self._rows.pop(self._keys.user_id(key), None)

    def on_tracked(self, yes: bool) -> None:
        self._tracked = yes
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
