"""Tables to the newest rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import rows as rows_module
from features.hashing import hashed
from features.schema import HISTORY_LENGTH
from tests.features.worlds import START, World, event_rows, events, films, world_of


def test_rows_follow_the_tables_and_fill_in_defaults() -> None:
    world = films()
    schema = world.schema
    users, items = world.rows(schema)
    defaults = {feature.name: feature.default for feature in (*schema.user, *schema.item)}
    assert users.ids[-1] == "silent"
    assert items.ids == tuple(world.items["item_id"].to_pylist())
    assert users.columns["user_events"].sum() == world.interactions.num_rows
    assert users.columns["age"][-1] == np.float32(defaults["age"])
    assert users.columns["occupation"][-1] == ""
    assert len(users.columns["history_items"][-1]) == 0
    assert items.columns["item_value_mean"][-1] == np.float32(defaults["item_value_mean"])
    assert np.isnan(items.newest[-1])
    assert list(users.columns) == [feature.name for feature in schema.user]


@given(event_rows())
def test_a_history_holds_the_users_events_in_order(rows: list[tuple[str, str, float, int]]) -> None:
    world = world_of(rows)
    users, _ = world.rows(world.schema)
    for position, user in enumerate(users.ids):
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[3])
        columns = users.columns
        assert columns["history_items"][position].tolist() == [item for _, item, _, _ in mine]
        assert columns["history_values"][position].tolist() == [value for _, _, value, _ in mine]
        assert columns["history_times"][position].tolist() == [time for _, _, _, time in mine]
        newest = users.newest[position]
        assert newest == mine[-1][3] if mine else np.isnan(newest)


def test_a_long_history_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HISTORY_LENGTH >= 737  # the most active user of MovieLens-100K
    monkeypatch.setattr(rows_module, "HISTORY_LENGTH", 3)
    world = world_of([("u0", f"i{i % 3}", 1.0, START + i) for i in range(10)])
    users, _ = world.rows(world.schema)
    assert users.columns["history_times"][0].tolist() == [START + 7, START + 8, START + 9]
    assert users.columns["user_events"][0] == 10


@given(event_rows(), st.integers(1, 4))
def test_what_came_before_the_history_is_still_known(
    rows: list[tuple[str, str, float, int]], length: int
) -> None:
    """Every item ever met stands in the history or among the older ones, those once and with the value that
    was given last."""
    world = world_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "HISTORY_LENGTH", length)
        users, _ = world.rows(world.schema)
    for position, user in enumerate(users.ids):
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[3])
        kept = {item for _, item, _, _ in mine[-length:]}
        last = {item: value for _, item, value, _ in mine if item not in kept}
        hashes = users.columns["older_items"][position]
        assert hashes.dtype == np.uint32
        assert hashes.tolist() == sorted(hashed(last).tolist())
        values = dict(zip(hashes.tolist(), users.columns["older_values"][position].tolist(), strict=True))
        assert values == {int(hashed([item])[0]): value for item, value in last.items()}


def test_ids_need_not_be_dictionary_encoded_nor_in_one_chunk() -> None:
    world = films()
    plain = world.interactions.set_column(0, "user_id", world.interactions["user_id"].cast(pa.string()))
    halves = pa.concat_tables([world.interactions.slice(0, 50), world.interactions.slice(50)])
    expected = world.lines.user_code
    for table in (plain, halves):
        np.testing.assert_array_equal(World(table, world.items, world.users).lines.user_code, expected)


def test_no_events_at_all() -> None:
    world = world_of([])
    users, items = world.rows(world.schema)
    assert users.columns["user_events"].tolist() == [0, 0, 0]
    assert np.isnan(items.newest).all()
    assert events([]).num_rows == 0
