"""Query hydrators: what the online store knows of the user, in one read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.schema import FeatureSchema
from features.store import FeatureBatch, OnlineStore
from features.transforms import encode
from serving.types import History, Query
from training.catalogue import Catalogue


class UserHydrator:
    """Fills in the user's history and features. A user without a row stays as the request left them."""

    name = "user"

    def __init__(self, store: OnlineStore, schema: FeatureSchema, catalogue: Catalogue) -> None:
        self._store = store
        self._schema = schema
        self._catalogue = catalogue

    def enabled(self, query: Query) -> bool:
        return query.user_id is not None

    async def hydrate_query(self, query: Query) -> Query:
        """Raises OnlineStoreError where the store does not answer; the executor goes on without."""
        assert query.user_id is not None
        rows = await self._store.read_users([query.user_id])
        if not rows.found[0]:
            return replace(query, user_version=0)
        return replace(
            query,
            user_version=int(rows.version[0]),
            history=self._history(rows),
            user_features=encode(self._schema.user, rows.columns)[0],
            feature_age_s=_known(rows.age_s(query.now)[0]),
        )

    def _history(self, rows: FeatureBatch) -> History:
        columns = rows.columns
        index = self._catalogue.indices(columns["history_items"][0])
        known = index >= 0
        return History(
            index[known],
            np.asarray(columns["history_values"][0], np.float32)[known],
            np.asarray(columns["history_times"][0], np.float64)[known],
        )


def _known(age: float) -> float | None:
    return None if np.isnan(age) else float(age)
