"""Several queries at once: to each what the stages answer it alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from serving import vectorised
from serving.assemble import build_stages, compose
from serving.config import ServeConfig
from serving.errors import InvariantViolation
from serving.microbatch import MicroBatcher
from serving.types import Computed, Diversity, Query, Recommendation
from serving.vectorised import Vectorised
from tests.serving.doubles import Counts, history_of, indices, query_of
from tests.serving.models import N_ITEMS, N_USERS, small, small_bundle
from training.models.blend import Blend
from training.models.ranker import AdditiveRanker

WORLD, BUNDLE = small(), small_bundle()
CONFIG = ServeConfig(bundle="small")
IDS = WORLD.data.events.user_ids
KNOWN = [IDS[user] for user in range(N_USERS) if WORLD.seen(user)]


@dataclass
class Counted(Counts):
    """Keeps, of every stage, what it was given and let through."""

    stages: list[tuple[str, int, int]] = field(default_factory=list)

    def stage(self, stage: str, seconds: float, candidates_in: int, candidates_out: int) -> None:
        assert seconds >= 0
        self.stages.append((stage, candidates_in, candidates_out))


def stages_of(config: ServeConfig = CONFIG) -> Vectorised:
    found = build_stages(BUNDLE, config).vectorised
    assert found is not None
    return found


def answered(queries: list[Query], *, together: bool, recorder: Counts | None = None) -> list[Recommendation]:
    """By a pipeline whose batcher is, or is not, there; all at once."""

    async def go() -> list[Recommendation]:
        stages = build_stages(BUNDLE, CONFIG)
        assert stages.vectorised is not None
        batcher = MicroBatcher(stages.vectorised) if together else None
        engine = compose(BUNDLE, stages, WORLD.store(), CONFIG, recorder or Counts(), batcher)
        return await asyncio.gather(*(engine.recommend.run(query) for query in queries))

    return asyncio.run(go())


def asking(**fields: Any) -> Query:
    return query_of(now=WORLD.now, deadline=time.monotonic() + 60, **fields)


queries = st.builds(
    asking,
    user_id=st.sampled_from(KNOWN),
    count=st.integers(1, 50),
    exclude=st.lists(st.integers(0, N_ITEMS - 1), max_size=8).map(indices),
    filter=st.none() | st.sampled_from([{"genres": {"any": [f"genre-{i}"]}} for i in range(12)]),
    diversity=st.sampled_from([Diversity("none", 0.0), Diversity("mmr", 0.3), Diversity("mmr", 1.0)]),
    explain=st.booleans(),
) | st.builds(
    asking,
    user_id=st.none(),
    session=st.just(True),
    history=st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=9).map(history_of),
)


@settings(max_examples=60)
@given(st.lists(queries, min_size=2, max_size=6))
def test_to_each_what_the_stages_answer_it_alone(asked: list[Query]) -> None:
    alone_seen, together_seen = Counted(), Counted()
    alone = answered(asked, together=False, recorder=alone_seen)
    together = answered(asked, together=True, recorder=together_seen)
    for one, other in zip(alone, together, strict=True):
        assert other.batch.item_index.tolist() == one.batch.item_index.tolist()
        assert other.batch.source.tolist() == one.batch.source.tolist()
        assert other.batch.item_index.dtype == np.int32
        assert other.batch.source.dtype == np.uint32
        np.testing.assert_allclose(other.batch.retrieval_score, one.batch.retrieval_score, atol=1e-5)
        if one.batch.score is not None:
            np.testing.assert_allclose(other.batch.score, one.batch.score, atol=1e-5)
        assert (other.tier, other.degraded, set(other.timings_ms)) == (one.tier, (), set(one.timings_ms))
        assert [told.sentence for told in other.explanations] == [told.sentence for told in one.explanations]
    assert sorted(together_seen.stages) == sorted(alone_seen.stages)


def test_they_are_computed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would compare the stages with themselves."""
    groups = grouped(monkeypatch)
    answered([asking(user_id=user) for user in KNOWN[:5]], together=True)
    assert groups == [5]


def grouped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were computed together, group by group."""
    groups, compute = [], Vectorised.compute

    def counted(self: Vectorised, asked: Any, allowed: Any) -> list[Computed]:
        groups.append(len(asked))
        return compute(self, asked, allowed)

    monkeypatch.setattr(Vectorised, "compute", counted)
    return groups


def test_a_traced_request_is_computed_by_its_own_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = grouped(monkeypatch)
    with TracerProvider().get_tracer("tests").start_as_current_span("a request"):
        answered([asking(user_id=user) for user in KNOWN[:5]], together=True)
    assert groups == []


def test_what_cannot_be_computed_together_the_stages_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, counts = [asking(user_id=user) for user in KNOWN[:5]], Counts()
    alone = answered(asked, together=False)
    monkeypatch.setattr(Vectorised, "compute", broken)
    for one, other in zip(alone, answered(asked, together=True, recorder=counts), strict=True):
        assert other.batch.item_index.tolist() == one.batch.item_index.tolist()
        assert other.degraded == ()
    assert counts.losses == []


def broken(self: Vectorised, asked: Any, allowed: Any) -> list[Computed]:
    raise FloatingPointError("one of them")


def test_it_takes_who_has_a_history_and_asks_for_no_more_than_a_source_brings() -> None:
    known, many = asking(history=history_of([1, 2]), count=10), CONFIG.retrieval.popular
    stages = stages_of()
    assert stages.takes(known)
    assert stages.takes(replace(known, count=many))
    assert not stages.takes(replace(known, count=many + 1))
    assert not stages.takes(replace(known, history=history_of([])))
    shallow = stages_of(
        CONFIG.model_copy(update={"diversity": CONFIG.diversity.model_copy(update={"pool": 9})})
    )
    assert not shallow.takes(known)


def test_a_score_that_is_not_finite_is_an_error_and_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdditiveRanker, "score", lambda self, rows: np.full(len(rows), np.nan, np.float32))
    asked = [asking(history=history_of([item])) for item in (1, 2)]
    stages = stages_of()
    with pytest.raises(InvariantViolation, match="not finite"):
        stages.compute(asked, [stages.eligible(query) for query in asked])


def test_a_large_catalogue_is_left_to_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vectorised.MOST_ITEMS >= N_ITEMS
    monkeypatch.setattr("serving.assemble.MOST_ITEMS", N_ITEMS - 1)
    assert build_stages(BUNDLE, CONFIG).vectorised is None


def test_a_blend_that_numbers_its_sources_otherwise_is_left_to_the_stages() -> None:
    calibrations = dict(reversed(WORLD.blend.calibrations.items()))
    other = Blend(calibrations, WORLD.blend.quotas).to_component()
    bundle = replace(BUNDLE, components={**BUNDLE.components, "blend": other})
    assert build_stages(bundle, CONFIG).vectorised is None
