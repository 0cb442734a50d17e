"""Query hydrators: what the online store knows of the user, in one read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cachetools import LRUCache

from features.schema import FeatureSchema
from features.store import FeatureBatch, OnlineStore
from features.transforms import encode
from serving.observe import tracing
from serving.past import Past, past
from serving.types import Float32, Query
from training.catalogue import Catalogue
from training.feedback import Feedback

DECODED = 1_024
"""Users whose decoded rows are kept, about 3 kB each, least recently used first out. A user who asks
once asks again, and decoding took a sixth of an answer from the cache."""


class UserHydrator:
    """Fills in the user's history and features. A user without a row stays as the request left them. One
    version of a row is decoded once; what it gives is shared between queries and read-only."""

    name = "user"

    def __init__(
        self, store: OnlineStore, schema: FeatureSchema, catalogue: Catalogue, feedback: Feedback
    ) -> None:
        self._store = store
        self._schema = schema
        self._catalogue = catalogue
        self._feedback = feedback
        self._decoded: LRUCache[tuple[str, int], tuple[Past, Float32]] = LRUCache(DECODED)

    def enabled(self, query: Query) -> bool:
        return query.user_id is not None

    async def hydrate_query(self, query: Query) -> Query:
        """Raises OnlineStoreError where the store does not answer; the executor goes on without."""
        assert query.user_id is not None
        with tracing.span("online store"):
            rows = await self._store.read_users([query.user_id])
        if not rows.found[0]:
            return replace(query, user_version=0)
        version = int(rows.version[0])
        past, features = self._row(query.user_id, version, rows)
        return replace(
            query,
            user_version=version,
            history=past.history,
            met=past.met,
            disliked=past.disliked,
            user_features=features,
            feature_age_s=_known(rows.age_s(query.now)[0]),
        )

    def _row(self, user_id: str, version: int, rows: FeatureBatch) -> tuple[Past, Float32]:
        decoded = self._decoded.get((user_id, version))
        if decoded is None:
            past, features = self._past(rows), encode(self._schema.user, rows.columns)[0]
            history = past.history
            for array in (history.item_index, history.value, history.timestamp, features):
                array.flags.writeable = False
            decoded = self._decoded[user_id, version] = past, features
        return decoded

    def _past(self, rows: FeatureBatch) -> Past:
        columns = rows.columns
        older, of = self._catalogue.hashed(columns["older_items"][0])
        return past(
            self._feedback,
            self._catalogue.indices(columns["history_items"][0]),
            np.asarray(columns["history_values"][0], np.float32),
            np.asarray(columns["history_times"][0], np.float64),
            older,
            np.asarray(columns["older_values"][0], np.float32)[of],
        )


def _known(age: float) -> float | None:
    return None if np.isnan(age) else float(age)
