"""Tables to the newest rows."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import rows as rows_module
from features.hashing import hashed
from features.schema import HISTORY_LENGTH
from features.transforms import encode
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


EXTREMES = {
    "numbers": (pa.float64(), [1e308, -1e308, float("inf"), float("-inf"), float("nan"), 1e39, 0.0, 5e-324]),
    "halves": (pa.float16(), [np.float16("inf"), np.float16(1), np.float16("nan")]),
    "integers": (pa.int64(), [-(2**63), 2**63 - 1, 0]),
    "unsigned": (pa.uint64(), [2**64 - 1, 0]),
    "decimals": (pa.decimal256(76, 2), [Decimal(10) ** 70, -(Decimal(10) ** 70), Decimal("0.25")]),
    "flags": (pa.bool_(), [True, False]),
    "days": (pa.date32(), [date.min, date.max, date(1970, 1, 1)]),
    "moments": (pa.timestamp("us"), [datetime.min, datetime.max]),
    "seconds": (pa.timestamp("s"), [-(2**40), 2**40]),
    "nanoseconds": (pa.timestamp("ns"), [-(2**63) + 1, 2**63 - 1]),
    "words": (pa.large_string(), ["", "\u2028", "a" * 70_000]),
}
"""Types of columns, with the values at their ends."""


@settings(max_examples=150)
@given(kind=st.sampled_from(sorted(EXTREMES)), data=st.data())
def test_columns_of_any_values_are_finite_for_a_model(kind: str, data: st.DataObject) -> None:
    """Whatever a column holds, and without a warning of numpy, which would end up on a console."""
    of, values = EXTREMES[kind]
    cells = data.draw(st.lists(st.one_of(st.none(), st.sampled_from(values)), min_size=4, max_size=8))
    items = pa.table({"item_id": [f"i{n}" for n in range(len(cells))], "column": pa.array(cells, of)})
    world = World(events([("u", "i0", 1.0, START)]), items, pa.table({"user_id": ["u"]}))
    schema = world.schema
    _, rows = world.rows(schema)
    assert np.isfinite(encode(schema.item, rows.columns)).all()
    assert "column" in [feature.name for feature in schema.item]
