"""The online store over Feast and Redis: one round trip and one value a row.

Reads go to Feast's `OnlineStore` itself, for the packed row (`features.packed`). `get_online_features`, which
makes a protobuf of every feature and a response of those, takes twice as long for one user and four times
as long for a hundred; its values are the reference that tests hold these to. There is no registry in between,
so none is ever refreshed.

Reads are asynchronous: Feast's synchronous ones block the event loop, so that a stalled Redis would stop
every request of a replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from features.definitions import PACKED, row_view
from features.feast_api import EntityKey, Value
from features.feast_config import configuration
from features.feast_redis import PackedRedisOnlineStore
from features.marker import MARKER, unstamped
from features.packed import RowLayout
from features.redis_address import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, RedisAddress
from features.redis_errors import explain
from features.schema import ITEM_ID, USER_ID, Feature, FeatureSchema
from features.store import FeatureBatch, OnlineStoreError
from features.transforms import ITEM_LAST_EVENT, USER_LAST_EVENT

CONNECTIONS = 32
"""Connections to Redis, and reads at a time, of one store. At 0.5 ms a read they carry far more than a
replica can ask; a read beyond them waits, within its deadline."""

FORM_CHECK_S = 10.0
"""Seconds for which the form of the rows in Redis, once found right, is trusted by reads that miss. A miss
may mean that another release has written rows which this one cannot see."""


class FeastOnlineStore:
    """Implements `features.store.OnlineStore`. Belongs to the event loop that first reads with it.

    Definitions come from the schema, not from a registry: a replica needs no shared disk, and what it asks
    Redis for cannot differ from what its bundle was trained on. Construction opens no connection.
    """

    def __init__(self, schema: FeatureSchema, redis_url: str, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        """Raises `RedisUrlError` for a URL that is not one of Redis."""
        # No timeout of the socket: redis-py would arm a timer for every row of a reply, which made a read of
        # 500 rows half as long again. The deadline below bounds the whole read.
        self._address = RedisAddress.parse(redis_url)
        self._config = configuration(self._address.feast(None, CONNECTIONS))
        self._online = PackedRedisOnlineStore()
        self._users = _Entity(USER_ID, schema.user, USER_LAST_EVENT)
        self._items = _Entity(ITEM_ID, schema.item, ITEM_LAST_EVENT)
        self._deadline_s = CONNECT_TIMEOUT_S + read_timeout_s
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._form_checked = -FORM_CHECK_S
        self._closed = False

    def kept(self, user_id: str) -> FeatureBatch | None:
        return None

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        return await self._read(self._users, user_ids)

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await self._read(self._items, item_ids)

    async def close(self) -> None:
        self._closed = True
        await self._online.aclose()

    async def _read(self, entity: _Entity, ids: Sequence[str]) -> FeatureBatch:
        if self._closed:
            raise OnlineStoreError("the store is closed")
        try:
            async with asyncio.timeout(self._deadline_s), self._slots:
                rows = await self._fetch(entity, ids) if ids else []
                if None in rows:
                    await self._require_form()
        except TimeoutError as error:
            raise OnlineStoreError(
                f"Redis at {self._address} did not answer within {self._deadline_s:g} s"
            ) from error
        except DecodeError as error:
            raise OnlineStoreError(
                f"Redis at {self._address} holds a row that cannot be read ({error}): run `marquee features`"
                " with --force"
            ) from error
        except (RedisError, OSError) as error:
            raise OnlineStoreError(f"Redis at {self._address} {explain(error)}") from error
        return entity.batch(ids, rows)

    async def _fetch(self, entity: _Entity, ids: Sequence[str]) -> list[bytes | None]:
        keys = [entity.key(one) for one in ids]
        rows = await self._online.online_read_async(self._config, entity.view, keys, [PACKED])
        values = [None if features is None else features[PACKED] for _, features in rows]
        return [value.bytes_val if value and value.HasField("bytes_val") else None for value in values]

    async def _require_form(self) -> None:
        """Raises `OnlineStoreError` where Redis holds complete rows in a form of another release."""
        now = time.monotonic()
        if now < self._form_checked + FORM_CHECK_S:
            return
        marker = await self._online.value(self._config, MARKER)
        if marker is not None and unstamped(marker.decode()) is None:
            raise OnlineStoreError(
                f"Redis at {self._address} holds rows that another release wrote: run `marquee features`"
            )
        self._form_checked = now


class _Entity:
    """What reading users, or items, takes."""

    def __init__(self, key: str, features: Sequence[Feature], newest: str) -> None:
        self.view = row_view(key)
        self._layout = RowLayout(key, features)
        self._newest = newest
        self._key = EntityKey(join_keys=[key], entity_values=[Value(string_val="")]).SerializeToString()

    def key(self, one: str) -> EntityKey:
        key = EntityKey.FromString(self._key)  # a third of the time of its constructor
        key.entity_values[0].string_val = one
        return key

    def batch(self, ids: Sequence[str], rows: Sequence[bytes | None]) -> FeatureBatch:
        columns, version = self._layout.unpack(rows)
        return FeatureBatch(
            ids=tuple(ids),
            found=version != 0,
            columns=columns,
            written_at=np.asarray(columns[self._newest], np.float64),
            version=version,
        )
