"""Query hydrators: what the online store knows of the users of a batch, in one read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from cachetools import LRUCache

from features.schema import FeatureSchema
from features.store import Column, FeatureBatch, OnlineStore
from features.transforms import encode
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

    def kept(self, query: Query) -> Query | None:
        assert query.user_id is not None
        row = self._store.kept(query.user_id)
        return None if row is None else self._filled([query], row)[0]

    async def hydrate(self, queries: Sequence[Query]) -> list[Query]:
        """Raises OnlineStoreError where the store does not answer; the executor goes on without."""
        ids = dict.fromkeys(query.user_id for query in queries if query.user_id is not None)
        return self._filled(queries, await self._store.read_users(list(ids)))

    def _filled(self, queries: Sequence[Query], rows: FeatureBatch) -> list[Query]:
        place = {user_id: at for at, user_id in enumerate(rows.ids)}
        return [self._with(query, rows, place[str(query.user_id)]) for query in queries]

    def _with(self, query: Query, rows: FeatureBatch, at: int) -> Query:
        if not rows.found[at]:
            return replace(query, user_version=0)
        past, features = self._row(rows, at)
        return replace(
            query,
            user_version=int(rows.version[at]),
            history=past.history,
            met=past.met,
            disliked=past.disliked,
            user_features=features,
            feature_age_s=_known(rows.age_s(query.now)[at]),
        )

    def _row(self, rows: FeatureBatch, at: int) -> tuple[Past, Float32]:
        key = rows.ids[at], int(rows.version[at])
        decoded = self._decoded.get(key)
        if decoded is None:
            columns = rows.take([at]).columns
            past, features = self._past(columns), encode(self._schema.user, columns)[0]
            history = past.history
            for array in (history.item_index, history.value, history.timestamp, features):
                array.flags.writeable = False
            decoded = self._decoded[key] = past, features
        return decoded

    def _past(self, columns: Mapping[str, Column]) -> Past:
        """Of a batch of one row."""
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
