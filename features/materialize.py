"""Offline to online: writes every user's and item's newest row into Redis, through Feast.

Rows are written from memory with `write_to_online_store`: Feast's `materialize` reads the whole log back
through dask to find the newest rows, which we hold, and cannot make histories. A marker in Redis says which
data and schema are there, so that an empty, flushed or foreign Redis is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from redis.exceptions import RedisError

from features.definitions import views
from features.feast_api import FeatureStore, RedisOnlineStore
from features.marker import MARKER, connect, unreachable
from features.offline import micros
from features.progress import Step, silent
from features.rows import Rows
from features.schema import EVENT_TIME, ITEM_ID, USER_ID, FeatureSchema

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
    """Replaces whatever rows Redis holds by these. Doing it twice changes nothing.

    Older rows go first: Feast keeps a row whose newest event is as new as the one written, even under another
    schema. Readers meanwhile find some users unknown. Stopped half-way, there is no marker, and the next
    run starts over.

    Raises:
        OnlineStoreError: Redis cannot be reached, or fails on the way.
    """
    try:
        with connect(redis_url) as client:
            client.delete(MARKER)
            online = store._get_provider().online_store
            assert isinstance(online, RedisOnlineStore)
            for key in (USER_ID, ITEM_ID):
                online.delete_entity_values(store.config, [key])
            for view, (key, features) in views(schema).items():
                rows = users if key == USER_ID else items
                _write(store, view, key, rows, [feature.name for feature in features], progress)
            client.set(MARKER, data_version)
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error
    return Counts(len(users.ids), len(items.ids))


def _write(store: FeatureStore, view: str, key: str, rows: Rows, names: list[str], progress: Step) -> None:
    when = pd.to_datetime(micros(rows.newest), unit="us", utc=True)
    for begin in range(0, len(rows.ids), WRITE_ROWS):
        part = slice(begin, begin + WRITE_ROWS)
        frame = pd.DataFrame(
            {
                key: np.array(rows.ids[part], np.object_),
                EVENT_TIME: when[part],
                **{name: rows.columns[name][part] for name in names},
            }
        )
        store.write_to_online_store(view, frame)
        progress(view, min(begin + WRITE_ROWS, len(rows.ids)), len(rows.ids))
