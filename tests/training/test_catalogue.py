from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from training.catalogue import Catalogue, presentable

SPEAKABLE: dict[str, list[object]] = {
    "title": ["A", None, ""],
    "year": [1990, None, 2001],
    "price": [decimal.Decimal("1.10"), None, decimal.Decimal("2")],
    "share": [0.5, float("nan"), float("inf")],
    "genres": [["Drama"], [], None],
    "seen": [True, None, False],
    "released": [datetime.date(1990, 1, 1), None, datetime.date(2000, 2, 29)],
    "made": [{"by": "X", "in": [1, 2]}, None, {"by": None, "in": None}],
}
COLUMNS = {name: pa.array(cells) for name, cells in SPEAKABLE.items()}
UNSPEAKABLE = {
    "photo": pa.array([b"\xff\xd8", b"", None]),
    "far": pa.array([0, 2**60, None], pa.timestamp("s")),
    "parts": pa.array([{"raw": b"\xff"}, None, None]),
    "view": pa.array(["a", "b", None], pa.string_view()),
}


def catalogue(**columns: pa.Array) -> Catalogue:
    table = pa.table({"item_id": ["a", "b", "c"], **columns})
    return Catalogue(presentable(table)[0], np.zeros((3, 1), np.float32))


@given(st.sets(st.sampled_from(sorted(COLUMNS))), st.sets(st.sampled_from(sorted(UNSPEAKABLE))))
def test_any_columns_or_none_can_be_shown(good: set[str], bad: set[str]) -> None:
    columns = {name: COLUMNS[name] for name in good} | {name: UNSPEAKABLE[name] for name in bad}
    table = pa.table({"item_id": ["a", "b", "c"], **columns})
    shown, left_out = presentable(table)
    assert set(left_out) == bad
    made = Catalogue(shown, np.zeros((3, 1), np.float32))
    rows = made.properties([2, 0, 0])
    assert len(rows) == 3
    assert rows[1] is rows[2]
    assert set(rows[1]) == good
    to_json(rows)
    assert [len(made.titles), len(made.ids)] == [3, 3]


@pytest.mark.parametrize(
    ("titles", "called"),
    [
        (None, ("a", "b", "c")),
        (["A", None, ""], ("A", "b", "c")),
        ([1917, None, 0], ("1917", "b", "0")),
        (pa.nulls(3), ("a", "b", "c")),
    ],
)
def test_an_item_is_called_by_its_title_or_else_its_id(titles: object, called: tuple[str, ...]) -> None:
    columns = {} if titles is None else {"title": pa.array(titles)}
    assert tuple(catalogue(**columns).titles) == called


@given(st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=20), st.data())
def test_every_id_is_found_again_and_no_other(ids: list[str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(ids) | st.text(max_size=3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.catalogue.CACHED_POSITIONS", data.draw(st.integers(0, 30)))
        if data.draw(st.booleans()):  # all ids have one hash
            patch.setattr("training.catalogue.hashed", lambda some: np.zeros(len(some), np.uint32))
        made = Catalogue(pa.table({"item_id": ids}), np.zeros((len(ids), 1), np.float32))
        for _ in range(2):
            expected = [ids.index(one) if one in ids else -1 for one in asked]
            assert made.indices(asked).tolist() == expected
        assert made.index(ids[-1]) == len(ids) - 1
        assert made.index("none of them") is None
    assert list(made.ids) == ids
    assert made.ids[1:3] == ids[1:3]
