"""Joining what sources brought: training's blend, item for item, and the cascade of similar items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import Candidates
from serving.eligibility import hidden
from serving.pipeline import Pipeline
from serving.retrieval.blend import CalibratedBlender, Cascade
from tests.serving.doubles import DecliningSource, FixedSource, batch_of, fails, queries_of, query_of, run
from tests.serving.models import N_ITEMS, small
from training.models.retrieval import SOURCES

BLEND = small().blend


@st.composite
def batches(draw: st.DrawFn, b: int) -> Candidates:
    lists = [draw(st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=12)) for _ in range(b)]
    score = st.floats(-3, 3, width=32)
    scores = [
        value
        for items in lists
        for value in sorted(draw(st.lists(score, min_size=len(items), max_size=len(items))), reverse=True)
    ]
    return batch_of(*lists, scores=scores)


Brought = list[Candidates | None]


def brought_to(b: int) -> st.SearchStrategy[Brought]:
    return st.lists(st.none() | batches(b), min_size=len(SOURCES), max_size=len(SOURCES)).map(
        lambda lists: [None if one is None else one.with_source(bit) for bit, one in enumerate(lists)]
    )


brought = st.integers(1, 3).flatmap(lambda b: st.tuples(st.just(b), brought_to(b)))


def bits_of(item: int, row: int, lists: Sequence[Candidates | None]) -> int:
    return sum(1 << bit for bit, b in enumerate(lists) if b is not None and item in b.items[row])


@given(brought, st.permutations(SOURCES), st.integers(1, 30), st.lists(st.integers(1, 30), min_size=3))
def test_serving_blends_as_training_did(
    case: tuple[int, Brought], names: list[str], limit: int, counts: list[int]
) -> None:
    """In whatever order the pipeline has its sources; their bits are the pipeline's."""
    b, lists = case
    asked = queries_of(*(query_of(count=count) for count in counts[:b]))
    ours = CalibratedBlender(BLEND, tuple(names), limit).blend(asked, lists)
    scored = {
        name: (found.items, found.retrieval_score)
        for name, found in zip(names, lists, strict=True)
        if found is not None
    }
    if not scored:
        assert ours.lengths.tolist() == [0] * b
        return
    items, probability, _ = BLEND.blend(scored, np.maximum(limit, asked.count).astype(np.int64))
    assert ours.item_index.tolist() == items.values.tolist()
    assert ours.row_splits.tolist() == items.row_splits.tolist()
    np.testing.assert_array_equal(ours.retrieval_score, probability)
    for row, items_of_one in enumerate(ours.items):
        bits = ours.take(np.array([row])).source.tolist()
        assert bits == [bits_of(item, row, lists) for item in items_of_one.tolist()]


def test_bits_stay_the_pipelines_when_a_source_is_lost_or_declines() -> None:
    sources = (
        FixedSource("two_tower", fault=fails, batch=batch_of([1])),
        FixedSource("ease", batch=batch_of([2, 3])),
        DecliningSource("sequential", batch=batch_of([3])),
        FixedSource("popular", batch=batch_of([3, 4]), personal=False),
    )
    pipeline = Pipeline(sources, CalibratedBlender(BLEND, SOURCES, 10), hidden, 0)
    answer = run(pipeline.run(query_of()))
    assert answer.degraded == ("source:two_tower",)
    shown = dict(zip(answer.shown.item_index.tolist(), answer.shown.source.tolist(), strict=True))
    assert shown == {2: 0b0010, 3: 0b1010, 4: 0b1000}


def test_all_lost_blends_to_nothing() -> None:
    asked = queries_of(query_of(), query_of())
    for blended in (
        CalibratedBlender(BLEND, SOURCES, 10).blend(asked, [None] * 4),
        Cascade().blend(asked, [None, None]),
    ):
        assert blended.lengths.tolist() == [0, 0]


@given(brought)
def test_a_cascade_trusts_the_first_then_what_only_the_next_brought(case: tuple[int, Brought]) -> None:
    b, lists = case
    blended = Cascade().blend(queries_of(*[query_of()] * b), lists)
    for row in range(b):
        mine, there = blended.take(np.array([row])), [one.take(np.array([row])) for one in lists if one]
        order = dict.fromkeys(item for one in there for item in one.item_index.tolist())
        assert mine.item_index.tolist() == list(order)
        assert mine.source.tolist() == [bits_of(item, row, lists) for item in order]
        assert (np.diff(mine.retrieval_score) <= 0).all()
        first = next((one for one in there if len(one.item_index)), Candidates.empty(1))
        np.testing.assert_array_equal(mine.retrieval_score[: len(first.item_index)], first.retrieval_score)


def test_a_cascade_lowers_later_scores_together_and_only_as_far_as_needed() -> None:
    """And those of one request only as far as that request needs."""
    first = batch_of([1, 2], [1], scores=[0.5, 0.25, 9.0])
    second = batch_of([2, 3, 4], [3], scores=[1.0, 0.75, 0.5, 0.75])
    third = batch_of([5], [], scores=[-2.0])
    lists = [one.with_source(bit) for bit, one in enumerate((first, second, third))]
    blended = Cascade().blend(queries_of(query_of(), query_of()), lists)
    assert [items.tolist() for items in blended.items] == [[1, 2, 3, 4, 5], [1, 3]]
    assert blended.retrieval_score.tolist() == [0.5, 0.25, 0.25, 0.0, -2.0, 9.0, 0.75]
