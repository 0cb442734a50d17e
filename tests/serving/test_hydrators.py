"""What the online store knows of the user, as the query carries it on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.memory_store import MemoryOnlineStore
from features.store import FeatureBatch, OnlineStoreError
from features.transforms import encode
from serving.hydrators import UserHydrator
from serving.types import Query
from tests.serving.doubles import history_of, query_of
from tests.serving.models import SILENT, small
from training.catalogue import Catalogue
from training.feedback import Feedback

WORLD = small()
CATALOGUE = WORLD.data.catalogue


def hydrated(query: Query, catalogue: Catalogue = CATALOGUE, store: MemoryOnlineStore | None = None) -> Query:
    hydrator = UserHydrator(store or WORLD.store(), WORLD.schema, catalogue, Feedback())
    (filled,) = asyncio.run(hydrator.hydrate([query]))
    return filled


@pytest.mark.parametrize("user", range(8))
def test_a_known_user_brings_history_features_and_their_age(user: int) -> None:
    user_id = WORLD.data.events.user_ids[user]
    query = hydrated(query_of(user_id=user_id, now=WORLD.now))
    start, end = WORLD.data.events.offsets[user : user + 2]
    assert query.history.item_index.tolist() == WORLD.seen(user)
    assert query.history.value.tolist() == WORLD.data.events.value[start:end].tolist()
    assert query.history.timestamp.tolist() == WORLD.data.events.timestamp[start:end].tolist()
    assert query.history.item_index.dtype == np.int32
    assert query.history.value.dtype == np.float32
    row = asyncio.run(WORLD.store().read_users([user_id]))
    assert query.user_features is not None
    np.testing.assert_array_equal(query.user_features, encode(WORLD.schema.user, row.columns)[0])
    assert query.feature_age_s == WORLD.now - float(WORLD.data.events.timestamp[end - 1])
    assert query.user_version == int(row.version[0]) != 0


def test_an_unknown_user_stays_as_the_request_left_them() -> None:
    query = query_of(user_id="nobody", history=history_of([3, 4]))
    assert query.user_version is None
    assert hydrated(query) == replace(query, user_version=0)


def test_one_version_of_a_row_is_decoded_once_and_another_anew() -> None:
    store = WORLD.store()
    hydrator = UserHydrator(store, WORLD.schema, CATALOGUE, Feedback())
    ask = query_of(user_id=WORLD.data.events.user_ids[0], now=WORLD.now)
    first, second = (asyncio.run(hydrator.hydrate([ask]))[0] for _ in range(2))
    assert second.history is first.history
    assert second.user_features is first.user_features
    assert not first.history.item_index.flags.writeable
    rows = asyncio.run(store.read_users([str(ask.user_id)]))
    rows.columns["history_values"][0] = rows.columns["history_values"][0] + 1
    (moved,) = hydrator._filled([ask], replace(rows, version=rows.version + np.uint64(1)))
    assert moved.history.value.tolist() == (first.history.value + 1).tolist()


class Counting:
    """Keeps what it was asked for, and once asked holds a row in memory."""

    def __init__(self) -> None:
        self.reads: list[list[str]] = []
        self._rows: dict[str, FeatureBatch] = {}
        self._store = WORLD.store()

    def kept(self, user_id: str) -> FeatureBatch | None:
        return self._rows.get(user_id)

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        self.reads.append(list(user_ids))
        rows = await self._store.read_users(user_ids)
        self._rows |= {one: rows.take([at]) for at, one in enumerate(user_ids)}
        return rows

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        return await self._store.read_items(item_ids)

    async def close(self) -> None:
        await self._store.close()


users = st.sampled_from([*WORLD.data.events.user_ids[:4], SILENT, "nobody"])


@settings(max_examples=30)
@given(st.lists(users, min_size=1, max_size=6))
def test_a_batch_is_one_read_and_equals_its_singles_and_what_is_kept(user_ids: list[str]) -> None:
    store = Counting()
    asked = [query_of(user_id=one, now=WORLD.now + at) for at, one in enumerate(user_ids)]
    hydrator = UserHydrator(store, WORLD.schema, CATALOGUE, Feedback())
    assert hydrator.kept(asked[0]) is None
    found = asyncio.run(hydrator.hydrate(asked))
    assert store.reads == [list(dict.fromkeys(user_ids))]
    for query, filled in zip(asked, found, strict=True):
        for alone in (hydrated(query), hydrator.kept(query)):
            assert alone is not None
            assert filled.history.item_index.tolist() == alone.history.item_index.tolist()
            assert (filled.feature_age_s, filled.user_version) == (alone.feature_age_s, alone.user_version)
    assert len(store.reads) == 1


def test_a_user_without_events_has_features_and_no_age() -> None:
    query = hydrated(query_of(user_id=SILENT, now=WORLD.now))
    assert len(query.history) == 0
    assert query.user_features is not None
    assert query.user_features.shape == (WORLD.schema.user_width,)
    assert query.feature_age_s is None


def test_events_of_items_outside_the_catalogue_are_left_out() -> None:
    kept = Catalogue(CATALOGUE.table.slice(0, 20), CATALOGUE.features[:20])
    user = max(range(30), key=lambda u: len(WORLD.seen(u)))
    inside = [item for item in WORLD.seen(user) if item < 20]
    assert 0 < len(inside) < len(WORLD.seen(user))
    query = hydrated(query_of(user_id=WORLD.data.events.user_ids[user], now=WORLD.now), kept)
    assert query.history.item_index.tolist() == inside
    at = [WORLD.data.events.offsets[user] + i for i, item in enumerate(WORLD.seen(user)) if item < 20]
    assert query.history.value.tolist() == WORLD.data.events.value[at].tolist()
    assert query.history.timestamp.tolist() == WORLD.data.events.timestamp[at].tolist()


def test_a_request_without_a_user_is_not_looked_up() -> None:
    hydrator = UserHydrator(WORLD.store(), WORLD.schema, CATALOGUE, Feedback())
    assert not hydrator.enabled(query_of(user_id=None))
    assert hydrator.enabled(query_of(user_id="u1"))


def test_a_store_that_does_not_answer_is_the_executors_to_handle() -> None:
    store = WORLD.store()
    asyncio.run(store.close())
    with pytest.raises(OnlineStoreError):
        hydrated(query_of(user_id="u1"), store=store)
