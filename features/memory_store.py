"""The online store in process: for tests, and for evaluating the served pipeline offline.

It holds the same rows that `materialize` writes to Redis, made by the same code; `tests/contracts` holds both
stores to one behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pyarrow as pa

from features.packed import RowLayout
from features.rows import Rows, item_rows, timelines, user_rows
from features.schema import ITEM_ID, USER_ID, Feature, FeatureSchema
from features.store import Column, FeatureBatch, OnlineStoreError
from features.transforms import column


class MemoryOnlineStore:
    """Implements `features.store.OnlineStore` over rows that it never changes."""

    def __init__(self, schema: FeatureSchema, users: Rows, items: Callable[[], Rows]) -> None:
        """Args:
        items: makes their rows when one is first read: what serves reads none.
        """
        self._users = _Table(USER_ID, schema.user, users)
        self._items = cache(lambda: _Table(ITEM_ID, schema.item, items()))
        self._closed = False

    @staticmethod
    def from_events(
        schema: FeatureSchema, interactions: pa.Table, items: pa.Table, users: pa.Table
    ) -> MemoryOnlineStore:
        """The rows as they stand after these interactions: for a state in the past, pass those before it
        (leave-one-out: all but each user's last).

        Raises:
            SchemaError: an interaction names a user or an item that its table does not hold.
        """
        lines = timelines(interactions, items, users)
        rows = user_rows(schema, lines, users)
        return MemoryOnlineStore(schema, rows, lambda: item_rows(schema, lines, items))

    def kept(self, user_id: str) -> FeatureBatch | None:
        return None

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        return self._read(lambda: self._users, user_ids)

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return self._read(self._items, item_ids)

    async def close(self) -> None:
        self._closed = True

    def _read(self, table: Callable[[], _Table], ids: Sequence[str]) -> FeatureBatch:
        if self._closed:
            raise OnlineStoreError("the store is closed")
        return table().read(ids)


class _Table:
    """Columns with one row more than there are entities: the defaults, at -1, where unknown ids point."""

    def __init__(self, key: str, features: Sequence[Feature], rows: Rows) -> None:
        self._layout = RowLayout(key, features)
        self._position = {entity: position for position, entity in enumerate(rows.ids)}
        self._newest = np.append(rows.newest, np.nan)
        self._columns: dict[str, Column] = {
            feature.name: np.concatenate([rows.columns[feature.name], column(feature, [None])])
            for feature in features
        }

    def read(self, ids: Sequence[str]) -> FeatureBatch:
        at = np.fromiter((self._position.get(entity, -1) for entity in ids), np.intp, len(ids))
        found, columns = at >= 0, {name: values[at] for name, values in self._columns.items()}
        return FeatureBatch(
            ids=tuple(ids),
            found=found,
            columns=columns,
            written_at=self._newest[at],
            version=np.where(found, self._layout.versions(columns), np.uint64(0)),
        )
