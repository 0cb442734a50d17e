"""Requests and their candidates as columns: what is taken, kept, joined and sent is what each row was."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import Candidates, Queries
from serving.types import Diversity, History, Query
from tests.serving.doubles import batch_of, history_of, indices, queries_of, query_of

One = list[tuple[int, int, float, float]]
"""Item, source bits, score and a column of each candidate of one request."""

one = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 7), st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)),
    max_size=6,
)
batches = st.lists(one, max_size=5)


def candidates(rows: list[One]) -> Candidates:
    found = batch_of(
        *([item for item, *_ in row] for row in rows), scores=[score for row in rows for *_, score, _ in row]
    )
    bits = np.array([bits for row in rows for _, bits, *_ in row], np.uint32)
    column = np.array([value for row in rows for *_, value in row], np.float32)
    return replace(found, source=bits, score=found.retrieval_score + 1).with_columns({"c": column})


def rows(found: Candidates) -> list[One]:
    assert found.score is not None
    np.testing.assert_array_equal(found.score, found.retrieval_score + 1)
    columns = (found.item_index, found.source, found.retrieval_score, found.columns["c"])
    flat = list(zip(*(column.tolist() for column in columns), strict=True))
    bounds = zip(found.row_splits[:-1].tolist(), found.row_splits[1:].tolist(), strict=True)
    return [flat[start:end] for start, end in bounds]


def column_types(found: Candidates) -> list[np.dtype[Any]]:
    return [found.row_splits.dtype, found.item_index.dtype, found.source.dtype, found.retrieval_score.dtype]


TYPES = [np.int64, np.int32, np.uint32, np.float32]


@given(batches)
def test_candidates_are_the_rows_they_were_made_of(several: list[One]) -> None:
    found = candidates(several)
    assert rows(found) == several
    assert len(found) == len(several)
    assert found.lengths.tolist() == [len(row) for row in several]
    assert found.row.tolist() == [n for n, row in enumerate(several) for _ in row]
    assert [items.tolist() for items in found.items] == [[item for item, *_ in row] for row in several]


@given(batches, st.data())
def test_take_gives_rows_in_any_order_and_as_often_as_asked(several: list[One], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(several) - 1), max_size=8)) if several else []
    taken = candidates(several).take(np.array(wanted, np.int64))
    assert rows(taken) == [several[row] for row in wanted]
    assert column_types(taken) == TYPES


@given(batches, st.data())
def test_keep_drops_candidates_and_no_request(several: list[One], data: st.DataObject) -> None:
    mask = [[data.draw(st.booleans()) for _ in row] for row in several]
    kept = candidates(several).keep(np.array([bit for row in mask for bit in row], np.bool_))
    assert rows(kept) == [
        [each for each, bit in zip(row, bits, strict=True) if bit]
        for row, bits in zip(several, mask, strict=True)
    ]
    assert column_types(kept) == TYPES


@given(batches, st.data())
def test_pick_gives_candidates_in_another_order(several: list[One], data: st.DataObject) -> None:
    found = candidates(several)
    orders = [data.draw(st.permutations(range(len(row)))) for row in several]
    places = [int(start) + place for start, order in zip(found.row_splits, orders, strict=False)
              for place in order]  # fmt: skip
    picked = found.pick(np.array(places, np.int64), found.row_splits)
    assert rows(picked) == [
        [row[place] for place in order] for row, order in zip(several, orders, strict=True)
    ]


@given(batches, st.data())
def test_join_puts_the_parts_of_a_batch_where_they_were(several: list[One], data: st.DataObject) -> None:
    """Parts of any requests, in any order; the requests of no part have nothing."""
    part_of = data.draw(
        st.lists(st.integers(0, 3), min_size=len(several), max_size=len(several))
    )  # 0: in no part
    found, parts = candidates(several), []
    for number in data.draw(st.permutations([1, 2, 3])):
        chosen = data.draw(st.permutations([row for row, part in enumerate(part_of) if part == number]))
        at = np.array(chosen, np.int64)
        parts.append((at, found.take(at)))
    joined = Candidates.join(parts, len(several))
    expected = [row if part else [] for row, part in zip(several, part_of, strict=True)]
    if any(expected):
        assert rows(joined) == expected
    assert joined.lengths.tolist() == [len(row) for row in expected]
    assert column_types(joined) == TYPES


def test_a_score_or_a_column_that_a_part_lacks_is_nan_there() -> None:
    full, plain = candidates([[(1, 1, 0.5, 2.0)]]), batch_of([2])
    both = Candidates.join([(np.array([1]), full), (np.array([0]), full)], 2)
    assert rows(both) == [[(1, 1, 0.5, 2.0)]] * 2
    mixed = Candidates.join([(np.array([0]), full), (np.array([1]), plain)], 2)
    assert mixed.score is not None
    np.testing.assert_array_equal(mixed.score, np.array([1.5, np.nan], np.float32))
    np.testing.assert_array_equal(mixed.columns["c"], np.array([2.0, np.nan], np.float32))
    assert mixed.relevance.tolist() == [1.5, *plain.retrieval_score.tolist()]
    assert mixed.ranked.tolist() == [True, False]
    nothing = Candidates.join([(np.array([0]), full), (np.array([1]), batch_of([]))], 2)
    assert rows(nothing) == [[(1, 1, 0.5, 2.0)], []]
    assert nothing.ranked.tolist() == [True, False]  # without candidates there is nothing to rank
    unranked = Candidates.join([(np.array([0]), plain), (np.array([1]), plain)], 2)
    assert (unranked.score, unranked.ranked.tolist()) == (None, [False, False])
    assert unranked.relevance.tolist() == unranked.retrieval_score.tolist()
    assert [len(Candidates.join([], b)) for b in (0, 3)] == [0, 3]


@given(batches, st.data())
def test_spread_is_a_join_of_one_part(several: list[One], data: st.DataObject) -> None:
    b = len(several) + data.draw(st.integers(0, 3))
    at = np.array(sorted(data.draw(st.permutations(range(b)))[: len(several)]), np.int64)
    found = candidates(several)
    spread = found.spread(at, b)
    assert spread.row_splits.tolist() == Candidates.join([(at, found)], b).row_splits.tolist()
    assert rows(spread.take(at)) == several


# Requests

items = st.lists(st.integers(0, 20), max_size=6)
queries = st.builds(
    lambda **given_fields: query_of(**given_fields),
    now=st.floats(0, 2e9),
    count=st.integers(1, 50),
    items=items.map(indices),
    exclude=items.map(indices),
    disliked=items.map(indices),
    history=items.map(history_of),
    filter=st.sampled_from([None, {"year": {"gte": 1990}}, {"year": {"gte": 1991}}]),
    user_features=st.none() | st.integers(0, 9).map(lambda value: np.full(3, value, np.float32)),
    diversity=st.builds(Diversity, st.sampled_from(["none", "mmr"]), st.sampled_from([0.0, 0.5])),
    explain=st.booleans(),
    context=st.sampled_from([{}, {"device": "tv"}]),
    traceparent=st.sampled_from([None, "00-a-b-01"]),
)


def assert_is(asked: Queries, row: int, query: Query) -> None:
    assert (asked.now[row], asked.count[row], asked.explain[row]) == (query.now, query.count, query.explain)
    assert asked.named[row].tolist() == query.items.tolist()
    assert asked.disliked[row].tolist() == query.disliked.tolist()
    assert asked.filters[asked.filter_of[row]] == query.filter
    assert asked.diversity[row] == (query.diversity.strength if query.diversity.method == "mmr" else 0)
    assert (asked.context[row], asked.traceparents[row]) == (query.context, query.traceparent)
    history: History = asked.histories[row]
    for field in fields(History):
        assert getattr(history, field.name).tolist() == getattr(query.history, field.name).tolist()
    assert asked.known[row] == (query.user_features is not None)
    known = np.zeros(3) if query.user_features is None else query.user_features
    assert asked.user_features[row].tolist() == known.tolist()


@given(st.lists(queries, max_size=5), st.data())
def test_a_batch_holds_each_request_and_take_gives_it(several: list[Query], data: st.DataObject) -> None:
    asked = queries_of(*several, user_width=3)
    assert len(asked) == len(several)
    assert len(asked.filters) == len({repr(query.filter) for query in several})  # equal filters are shared
    for row, query in enumerate(several):
        assert_is(asked, row, query)
    wanted = data.draw(st.lists(st.integers(0, len(several) - 1), max_size=6)) if several else []
    taken = asked.take(np.array(wanted, np.int64))
    assert len(taken) == len(wanted)
    for place, row in enumerate(wanted):
        assert_is(taken, place, several[row])
        assert taken.hidden[place].tolist() == asked.hidden[row].tolist()


def test_what_stages_share_of_a_batch_is_computed_once_and_stays_with_it() -> None:
    asked, computed = queries_of(query_of(), query_of()), []

    def compute() -> int:
        computed.append(1)
        return len(computed)

    assert [asked.once("it", compute) for _ in range(3)] == [1, 1, 1]
    assert asked.take(np.array([0, 1])).once("it", compute) == 1  # all of them is the batch itself
    part = asked.take(np.array([1]))
    assert part.once("it", compute) == 2
    assert asked.take(np.array([1])) is part  # the same for every stage that is for these requests
    assert asked.bare().once("it", compute) == 3


@pytest.mark.parametrize("b", [0, 1, 3])
def test_a_batch_without_candidates(b: int) -> None:
    nothing = Candidates.empty(b)
    assert (len(nothing), nothing.lengths.tolist()) == (b, [0] * b)
    assert len(nothing.keep(np.zeros(0, np.bool_))) == b
