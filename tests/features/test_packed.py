"""Packed rows: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.packed import RowLayout
from features.schema import Feature, Kind
from features.store import Column, OnlineStoreError
from features.transforms import column
from tests.features.worlds import films

SCHEMA = films().schema
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TEXT = ANY_TEXT | st.sampled_from(["\0", "\0\x01\x02", ""])
Table = tuple[tuple[Feature, ...], dict[str, Column]]
CELLS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.NUMBER: st.none() | st.floats(width=32),
    Kind.TIME: st.none() | st.floats(),
    Kind.CATEGORY: st.none() | TEXT,
    Kind.TEXT: st.none() | TEXT,
    Kind.CATEGORIES: st.none() | st.lists(TEXT, max_size=4),
    Kind.IDS: st.none() | st.lists(TEXT, max_size=4),
    Kind.NUMBERS: st.none() | st.lists(st.floats(width=32), max_size=4),
    Kind.TIMES: st.none() | st.lists(st.floats(), max_size=4),
    Kind.HASHES: st.none() | st.lists(st.integers(0, 2**32 - 1), max_size=4),
}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=9))
    features = tuple(Feature(f"f{place}", kind, "", default=0.5) for place, kind in enumerate(kinds))
    size = draw(st.integers(0, 4))
    cells = {f: draw(st.lists(CELLS[f.kind], min_size=size, max_size=size)) for f in features}
    return features, {feature.name: column(feature, values) for feature, values in cells.items()}


def assert_same_bits(one: Column, other: Column) -> None:
    assert one.dtype == other.dtype
    if one.dtype != np.object_:
        assert one.tobytes() == other.tobytes()
        return
    for cell, their_cell in zip(one, other, strict=True):
        assert type(cell) is type(their_cell)
        if isinstance(cell, np.ndarray) and cell.dtype != np.object_:
            assert cell.dtype == their_cell.dtype
            assert cell.tobytes() == their_cell.tobytes()
        else:
            assert list(cell) == list(their_cell)


@given(tables())
def test_what_is_packed_comes_back_to_the_last_bit(table: Table) -> None:
    features, columns = table
    layout = RowLayout("user", features)
    rows = layout.pack(columns)
    back, versions = layout.unpack(rows)
    assert list(back) == [feature.name for feature in features]
    for name, values in columns.items():
        assert_same_bits(back[name], values)
    np.testing.assert_array_equal(versions, layout.versions(columns))
    assert layout.pack(back) == rows


@given(tables())
def test_versions_are_equal_for_equal_rows_only(table: Table) -> None:
    features, columns = table
    layout = RowLayout("user", features)
    rows, versions = layout.pack(columns), layout.versions(columns).tolist()
    assert 0 not in versions
    assert len(set(versions)) == len(set(rows))


def test_whatever_changes_in_a_row_changes_its_version() -> None:
    layout = RowLayout("user", SCHEMA.user)
    row = films().rows(SCHEMA)[0]
    columns = {name: values[:1] for name, values in row.columns.items()}
    (before,) = layout.versions(columns)
    other: dict[Kind, Any] = {
        Kind.NUMBER: 0.25,
        Kind.TIME: 1.0,
        Kind.CATEGORY: "sailor",
        Kind.TEXT: "other",
        Kind.IDS: ["i1"],
        Kind.NUMBERS: [0.25],
        Kind.TIMES: [1.0],
        Kind.HASHES: [2**32 - 1],
    }
    versions = {before}
    for feature in SCHEMA.user:
        versions.add(layout.versions({**columns, feature.name: column(feature, [other[feature.kind]])})[0])
    assert len(versions) == 1 + len(SCHEMA.user)


def test_what_is_missing_has_the_defaults_and_version_0() -> None:
    layout = RowLayout("user", SCHEMA.user)
    columns, versions = layout.unpack([None, None])
    for feature in SCHEMA.user:
        assert_same_bits(columns[feature.name], column(feature, [None, None]))
    assert versions.tolist() == [0, 0]


def test_no_rows_are_no_rows() -> None:
    columns, versions = RowLayout("user", SCHEMA.user).unpack([])
    assert {len(values) for values in columns.values()} == {0}
    assert len(versions) == 0


@given(st.data())
def test_a_row_cut_short_or_altered_is_refused(data: st.DataObject) -> None:
    layout = RowLayout("user", SCHEMA.user)
    columns = {name: values[:1] for name, values in films().rows(SCHEMA)[0].columns.items()}
    (row,) = layout.pack(columns)
    at = data.draw(st.integers(0, len(row) - 1))
    altered = bytearray(row)
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (row[:at], bytes(altered), row + b"\0"):
        with pytest.raises(OnlineStoreError, match="marquee features"):
            layout.unpack([row, broken])


@pytest.mark.parametrize(
    "other",
    [
        RowLayout("item", SCHEMA.user),
        RowLayout("user", SCHEMA.user[:-1]),
        RowLayout("user", SCHEMA.user[::-1]),
        RowLayout("user", SCHEMA.item),
    ],
)
def test_a_row_of_another_layout_is_refused(other: RowLayout) -> None:
    rows = RowLayout("user", SCHEMA.user).pack(films().rows(SCHEMA)[0].columns)
    with pytest.raises(OnlineStoreError, match="another layout"):
        other.unpack(rows[:1])


def test_strings_that_hold_every_separator_there_is() -> None:
    feature = Feature("ids", Kind.IDS, "")
    layout = RowLayout("user", [feature])
    ids = ["".join(map(chr, range(300))), "", "ü☃", "a,b\n"]
    columns, _ = layout.unpack(layout.pack({"ids": column(feature, [ids])}))
    assert columns["ids"][0].tolist() == ids
