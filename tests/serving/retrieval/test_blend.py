"""Joining what sources brought: training's blend, item for item, and the cascade of similar items."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.pipeline import RecommendationPipeline
from serving.retrieval.blend import CalibratedBlender, Cascade
from serving.types import CandidateBatch
from tests.serving.doubles import FixedSource, batch_of, fails, query_of, run
from tests.serving.models import N_ITEMS, small
from training.models.retrieval import SOURCES

BLEND = small().blend


@st.composite
def batches(draw: st.DrawFn) -> CandidateBatch:
    items = draw(st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=12))
    score = st.floats(-3, 3, width=32)
    scores = sorted(draw(st.lists(score, min_size=len(items), max_size=len(items))), reverse=True)
    return batch_of(items, scores)


brought = st.lists(st.none() | batches(), min_size=len(SOURCES), max_size=len(SOURCES)).map(
    lambda lists: [None if b is None else b.with_source(bit) for bit, b in enumerate(lists)]
)


def bits_of(item: int, lists: list[CandidateBatch | None]) -> int:
    return sum(1 << bit for bit, b in enumerate(lists) if b is not None and item in b.item_index)


@given(brought, st.permutations(SOURCES), st.integers(1, 30), st.integers(1, 30))
def test_serving_blends_as_training_did(
    lists: list[CandidateBatch | None], names: list[str], limit: int, count: int
) -> None:
    """In whatever order the pipeline has its sources; their bits are the pipeline's."""
    ours = CalibratedBlender(BLEND, tuple(names), limit).blend(query_of(count=count), lists)
    items, probability, _ = BLEND.blend(
        {
            name: (b.item_index, b.retrieval_score)
            for name, b in zip(names, lists, strict=True)
            if b is not None
        },
        max(limit, count),
    )
    assert ours.item_index.tolist() == items.tolist()
    np.testing.assert_array_equal(ours.retrieval_score, probability)
    assert ours.source.tolist() == [bits_of(item, lists) for item in items.tolist()]


def test_bits_stay_the_pipelines_when_a_source_is_lost_or_declines() -> None:
    sources = (
        FixedSource("two_tower", fault=fails, batch=batch_of([1])),
        FixedSource("ease", batch=batch_of([2, 3])),
        FixedSource("sequential", wanted=False, batch=batch_of([3])),
        FixedSource("popular", batch=batch_of([3, 4]), personal=False),
    )
    answer = run(RecommendationPipeline(sources, CalibratedBlender(BLEND, SOURCES, 10)).run(query_of()))
    assert answer.degraded == ("source:two_tower",)
    shown = dict(zip(answer.batch.item_index.tolist(), answer.batch.source.tolist(), strict=True))
    assert shown == {2: 0b0010, 3: 0b1010, 4: 0b1000}


def test_all_lost_blends_to_nothing() -> None:
    blended = CalibratedBlender(BLEND, SOURCES, 10).blend(query_of(), [None] * 4)
    assert not len(blended)
    assert not len(Cascade().blend(query_of(), [None, None]))


@given(brought)
def test_a_cascade_trusts_the_first_then_what_only_the_next_brought(
    lists: list[CandidateBatch | None],
) -> None:
    blended = Cascade().blend(query_of(), lists)
    order = dict.fromkeys(item for b in lists if b is not None for item in b.item_index.tolist())
    assert blended.item_index.tolist() == list(order)
    assert blended.source.tolist() == [bits_of(item, lists) for item in order]
    assert (np.diff(blended.retrieval_score) <= 0).all()
    first = next((b for b in lists if b is not None and len(b)), CandidateBatch.empty())
    np.testing.assert_array_equal(blended.retrieval_score[: len(first)], first.retrieval_score)


def test_a_cascade_lowers_later_scores_together_and_only_as_far_as_needed() -> None:
    first, second = batch_of([1, 2], [0.5, 0.25]), batch_of([2, 3, 4], [1.0, 0.75, 0.5])
    third = batch_of([5], [-2.0])
    lists = [b.with_source(i) for i, b in enumerate((first, second, third))]
    blended = Cascade().blend(query_of(), lists)
    assert blended.item_index.tolist() == [1, 2, 3, 4, 5]
    assert blended.retrieval_score.tolist() == [0.5, 0.25, 0.25, 0.0, -2.0]
