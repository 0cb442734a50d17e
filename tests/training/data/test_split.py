from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.indexed import encode
from training.data.manifest import About
from training.data.split import MIN_EVENTS, Split, leave_one_out, temporal
from training.data.tables import Tables

# Few users and few times, so that short histories and ties are the rule.
logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=60)


def tables(log: list[tuple[int, int]]) -> Tables:
    interactions = pa.table(
        {
            "user_id": pa.array([f"u{user}" for user, _ in log]).dictionary_encode(),
            "item_id": pa.array([f"i{row}" for row in range(len(log))]).dictionary_encode(),
            "value": pa.array([float(row) for row in range(len(log))], pa.float32()),
            "timestamp": pa.array([time for _, time in log], pa.int64()),
        }
    )
    return Tables.assemble(interactions, None, None, About("log", "test", "none"))


def assert_partition(split: Split, rows: int) -> None:
    parts = (split.train, split.validation, split.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    assert all((np.diff(part) > 0).all() for part in parts)


@given(logs)
def test_leave_one_out_takes_each_users_last_two(log: list[tuple[int, int]]) -> None:
    split = leave_one_out(tables(log).interactions)
    assert_partition(split, len(log))
    for user in {user for user, _ in log}:
        rows = [row for row, (whose, _) in enumerate(log) if whose == user]
        rows.sort(key=lambda row: log[row][1])  # stable: ties in file order
        mine = set(rows)
        held = ([rows[-2]], [rows[-1]]) if len(rows) >= MIN_EVENTS else ([], [])
        assert (
            sorted(mine & set(split.validation.tolist())),
            sorted(mine & set(split.test.tolist())),
        ) == held


@given(logs)
def test_temporal_holds_out_the_newest_of_all_and_parts_no_second(log: list[tuple[int, int]]) -> None:
    split = temporal(tables(log).interactions)
    assert_partition(split, len(log))
    parts = [[log[row][1] for row in part] for part in (split.train, split.validation, split.test)]
    for before, after in ((0, 1), (1, 2), (0, 2)):
        assert not parts[before] or not parts[after] or max(parts[before]) < min(parts[after])
    assert len(split.test) >= 0.1 * len(log)
    newest = {time for _, time in log if time >= min(parts[2])}
    assert len(split.test) - sum(time == min(newest) for time in parts[2]) < 0.1 * len(log) + 1


@given(logs)
def test_encode_sorts_by_user_time_and_file_order(log: list[tuple[int, int]]) -> None:
    made = tables(log)
    indexed = encode(made)
    assert sorted(indexed.row.tolist()) == list(range(len(log)))
    keys = list(
        zip(indexed.user_index.tolist(), indexed.timestamp.tolist(), indexed.row.tolist(), strict=True)
    )
    assert keys == sorted(keys)
    for place, row in enumerate(indexed.row.tolist()):
        assert indexed.user_ids[indexed.user_index[place]] == f"u{log[row][0]}"
        assert indexed.item_ids[indexed.item_index[place]] == f"i{row}"
        assert (indexed.timestamp[place], indexed.value[place]) == (log[row][1], row)
    for user in range(len(indexed.user_ids)):
        mine = slice(indexed.offsets[user], indexed.offsets[user + 1])
        assert set(indexed.user_index[mine].tolist()) == {user}
    assert indexed.user_index.dtype == indexed.item_index.dtype == np.int32
    assert [indexed.value.dtype, indexed.offsets.dtype] == [np.float32, np.int64]


@given(logs, st.data())
def test_select_is_encode_of_the_rows_selected(log: list[tuple[int, int]], data: st.DataObject) -> None:
    whole = encode(tables(log))
    rows = data.draw(st.lists(st.integers(0, len(log) - 1), unique=True))
    part = whole.select(np.array(rows, np.int64))
    assert part.row.tolist() == [row for row in whole.row.tolist() if row in set(rows)]
    assert len(part.offsets) == len(whole.user_ids) + 1
    for user in range(len(part.user_ids)):
        mine = part.row[part.offsets[user] : part.offsets[user + 1]].tolist()
        assert all(log[row][0] == int(part.user_ids[user][1:]) for row in mine)
    assert part.offsets[-1] == len(rows) == len(part)


def test_encode_follows_the_item_table_and_keeps_items_without_events() -> None:
    made = tables([(0, 0), (0, 1)])
    items = pa.table({"item_id": ["i1", "cold", "i0"]})
    indexed = encode(Tables(made.interactions, items, made.users, made.about))
    assert indexed.item_ids == ("i1", "cold", "i0")
    assert indexed.item_index.tolist() == [2, 0]


def test_encode_refuses_an_id_without_a_row() -> None:
    made = tables([(0, 0)])
    with pytest.raises(ValueError, match="assemble"):
        encode(Tables(made.interactions, pa.table({"item_id": ["other"]}), made.users, made.about))
