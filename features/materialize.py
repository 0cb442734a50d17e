"""Offline to online: writes every user's and item's newest row into Redis, through Feast.

Rows are written from memory with `write_to_online_store`: Feast's `materialize` reads the whole log back
through dask to find the newest rows, which we hold, and cannot make histories. A marker in Redis says which
data and schema are there, so that an empty, flushed or foreign Redis is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from redis.exceptions import RedisError

from features.definitions import PACKED, row_view, views
from features.feast_api import FeatureStore, RedisOnlineStore
from features.known_user import KNOWN_USER, note_known_user
from features.limits import ONLINE_ITEMS
from features.marker import MARKER, connect, stamped, unreachable
from features.offline import micros
from features.packed import RowLayout
from features.progress import Step, silent
from features.redis_errors import refuse_cluster
from features.rows import Rows
from features.schema import EVENT_TIME, ITEM_ID, USER_ID, FeatureSchema
from features.store import Column
from features.transforms import object_column

WRITE_ROWS = 500
"""Rows of one write: a second of work at most between two steps of the progress bar."""


@dataclass(frozen=True, slots=True)
class Counts:
    users: int
    items: int


def materialize(
    store: FeatureStore,
    schema: FeatureSchema,
    users: Rows,
    items: Rows,
    redis_url: str,
    data_version: str,
    progress: Step = silent,
) -> Counts:
    """Replaces whatever rows Redis holds by these; of more than `ONLINE_ITEMS` items, none is. Doing it twice
    changes nothing.

    Older rows go first: Feast keeps a row whose newest event is as new as the one written, even under another
    schema. Readers meanwhile find some users unknown. Stopped half-way, there is no marker, and the next
    run starts over.

    Raises:
        OnlineStoreError: Redis cannot be reached, is a node of a Redis Cluster, or fails on the way.
    """
    try:
        with connect(redis_url) as client:
            refuse_cluster(client)
            client.delete(MARKER, KNOWN_USER)
            for key in (USER_ID, ITEM_ID):
                RedisOnlineStore().delete_entity_values(store.config, [key])
            write_rows(store, schema, USER_ID, users, progress)
            if len(items.ids) <= ONLINE_ITEMS:
                write_rows(store, schema, ITEM_ID, items, progress)
            note_known_user(client, schema, users)
            client.set(MARKER, stamped(data_version))
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error
    return Counts(len(users.ids), len(items.ids) if len(items.ids) <= ONLINE_ITEMS else 0)


def write_rows(
    store: FeatureStore, schema: FeatureSchema, key: str, rows: Rows, progress: Step = silent
) -> None:
    """Writes rows of one entity (`key`: `USER_ID` or `ITEM_ID`) into every online view of it, packed row
    included. Feast drops a row whose newest event is no newer than that of the row it holds.

    Raises:
        RedisError, OSError: Redis cannot be reached, or fails on the way.
    """
    features = schema.user if key == USER_ID else schema.item
    for view, (of, members) in views(schema).items():
        if of == key:
            _write(
                store,
                view,
                key,
                rows,
                {member.name: rows.columns[member.name] for member in members},
                progress,
            )
    packed = {PACKED: object_column(RowLayout(key, features).pack(rows.columns))}
    _write(store, row_view(key).name, key, rows, packed, progress)


def _write(
    store: FeatureStore, view: str, key: str, rows: Rows, columns: Mapping[str, Column], progress: Step
) -> None:
    when = pd.to_datetime(micros(rows.newest), unit="us", utc=True)
    for begin in range(0, len(rows.ids), WRITE_ROWS):
        part = slice(begin, begin + WRITE_ROWS)
        frame = pd.DataFrame(
            {
                key: np.array(rows.ids[part], np.object_),
                EVENT_TIME: when[part],
                **{name: values[part] for name, values in columns.items()},
            }
        )
        store.write_to_online_store(view, frame)
        progress(view, min(begin + WRITE_ROWS, len(rows.ids)), len(rows.ids))
