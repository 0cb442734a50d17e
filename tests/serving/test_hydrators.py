"""What the online store knows of the user, as the query carries it on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from features.memory_store import MemoryOnlineStore
from features.store import OnlineStoreError
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
    return asyncio.run(hydrator.hydrate_query(query))


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
    first, second = (asyncio.run(hydrator.hydrate_query(ask)) for _ in range(2))
    assert second.history is first.history
    assert second.user_features is first.user_features
    assert not first.history.item_index.flags.writeable
    rows = asyncio.run(store.read_users([str(ask.user_id)]))
    rows.columns["history_values"][0] = rows.columns["history_values"][0] + 1
    moved = hydrator._row(str(ask.user_id), int(rows.version[0]) + 1, rows)[0].history
    assert moved.value.tolist() == (first.history.value + 1).tolist()


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
