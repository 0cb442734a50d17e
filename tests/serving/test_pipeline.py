"""The executor's laws, whatever the stages bring: nothing lost, nothing twice, `count` kept, never an item
that is seen, excluded or filtered out; requests in a batch are answered as each alone. Faults are in
`tests/faults/test_failure_policy.py`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import BatchingConfig, Budgets
from serving.diversity.mmr import MMRSelector
from serving.eligibility import Eligibility, hidden
from serving.expressions import CatalogueFilter
from serving.filters import DuplicateFilter, EligibleFilter
from serving.pipeline import Pipeline
from serving.program import Here
from serving.types import Diversity, Float32, Query, Recommendation
from tests.serving.doubles import (
    BestScoreBlender,
    CatalogueHydrator,
    Counts,
    DecliningSource,
    FixedSource,
    ItemScorer,
    NearestSource,
    Recall,
    ScoreExplainer,
    ToldSource,
    batch_of,
    catalogue_of,
    history_of,
    indices,
    query_of,
)
from tests.serving.virtual import POOL, lasts, run

N, N_SOURCES = 30, 4
CATALOGUE = catalogue_of(N)
YEARS = CATALOGUE.table.column("year").to_pylist()
ELIGIBILITY = Eligibility(CatalogueFilter(CATALOGUE))
FILTERS = (DuplicateFilter(), EligibleFilter(ELIGIBILITY))

some_items = st.lists(st.integers(0, N - 1), max_size=12)
scores = st.lists(
    st.sampled_from([0.0, 0.5, 1.0, -3.0]) | st.floats(-(2.0**100), 2.0**100, width=32),
    min_size=N,
    max_size=N,
).map(lambda values: np.array(values, np.float32))


@dataclass(frozen=True)
class Case:
    """One request; `brought[i]` is what source i brings to it."""

    brought: list[list[int]]
    history: list[int]
    exclude: list[int]
    since: int | None
    count: int
    strength: float

    @property
    def query(self) -> Query:
        return query_of(
            history=history_of(self.history),
            exclude=indices(self.exclude),
            filter=None if self.since is None else {"year": {"gte": self.since}},
            count=self.count,
            diversity=Diversity("mmr", self.strength),
            explain=True,
            context={f"s{bit}": " ".join(map(str, items)) for bit, items in enumerate(self.brought)},
        )

    @property
    def eligible(self) -> set[int]:
        """By hand, from the catalogue's rows."""
        since = self.since
        matching = {i for i, y in enumerate(YEARS) if since is None or (y is not None and y >= since)}
        return matching - set(self.history) - set(self.exclude)

    @property
    def candidates(self) -> set[int]:
        return {item for items in self.brought for item in items} & self.eligible


TOLD = tuple(ToldSource(f"s{bit}") for bit in range(N_SOURCES))


def pipeline(
    given_scores: Float32 | None, sources: Sequence[ToldSource | NearestSource | FixedSource] = TOLD
) -> Pipeline:
    return Pipeline(
        sources=tuple(sources),
        blender=BestScoreBlender("blender"),
        hidden=hidden,
        user_width=0,
        filters=FILTERS,
        hydrators=(CatalogueHydrator("items", features=CATALOGUE.features),),
        scorer=None if given_scores is None else ItemScorer("scorer", scores=given_scores),
        selector=MMRSelector(CATALOGUE.features, pool=10),
        explainer=ScoreExplainer("explainer"),
        here=Here(POOL),
    )


def answered(asked: Pipeline, *queries: Query) -> list[Recommendation]:
    """All at the same moment."""

    async def gathered() -> list[Recommendation]:
        return await asyncio.gather(*map(asked.run, queries))

    return run(gathered())


cases = st.builds(
    Case,
    brought=st.lists(
        some_items.map(lambda items: list(dict.fromkeys(items))), min_size=N_SOURCES, max_size=N_SOURCES
    ),
    history=some_items,
    exclude=some_items,
    since=st.none() | st.integers(1980, 2000),
    count=st.integers(1, 15),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
)
rankings = st.none() | scores


def shown(answer: Recommendation) -> list[int]:
    return list(map(int, answer.shown.item_index))


@given(cases, rankings)
def test_nothing_lost_nothing_twice_nothing_forbidden(case: Case, given_scores: Float32 | None) -> None:
    (answer,) = answered(pipeline(given_scores), case.query)
    items = shown(answer)
    assert len(items) == len(set(items)) == min(case.count, len(case.candidates))
    assert set(items) <= case.candidates


@given(st.lists(cases, min_size=2, max_size=6), rankings)
def test_a_batch_equals_its_singles(several: list[Case], given_scores: Float32 | None) -> None:
    asked, queries = pipeline(given_scores), [case.query for case in several]
    for query, ours in zip(queries, answered(asked, *queries), strict=True):
        (alone,) = answered(asked, query)
        assert ours.query is query
        assert shown(ours) == shown(alone)
        assert ours.shown.source.tolist() == alone.shown.source.tolist()
        np.testing.assert_array_equal(ours.shown.retrieval_score, alone.shown.retrieval_score)
        if len(ours.shown):
            assert (ours.shown.score is None) == (given_scores is None) == (alone.shown.score is None)
        if ours.shown.score is not None and alone.shown.score is not None:
            np.testing.assert_array_equal(ours.shown.score, alone.shown.score)
        assert (ours.explanations, ours.tier) == (alone.explanations, alone.tier)
        assert ours.degraded == alone.degraded == ()
        assert set(ours.timings_ms) == set(alone.timings_ms)


@given(cases, rankings)
def test_a_narrow_filter_still_fills_the_answer(case: Case, given_scores: Float32 | None) -> None:
    """Sources that choose among eligible items bring enough, however few those are."""
    nearest = NearestSource("near", vectors=CATALOGUE.features, eligibility=ELIGIBILITY, k=case.count)
    (answer,) = answered(pipeline(given_scores, [nearest]), case.query)
    assert set(shown(answer)) <= case.eligible
    assert len(answer.shown) == min(case.count, len(case.eligible))


@given(cases, rankings)
def test_without_diversity_the_best_come_in_order(case: Case, given_scores: Float32 | None) -> None:
    (answer,) = answered(pipeline(given_scores), replace(case, strength=0.0).query)
    if given_scores is None:
        assert (np.diff(answer.shown.retrieval_score) <= 0).all()
        return
    best = sorted(case.candidates, key=lambda item: -given_scores[item])[: case.count]
    assert given_scores[shown(answer)].tolist() == given_scores[best].tolist()
    if best:
        assert answer.shown.score is not None
        assert answer.shown.score.tolist() == given_scores[shown(answer)].tolist()


@given(cases, rankings)
def test_the_same_question_gets_the_same_answer(case: Case, given_scores: Float32 | None) -> None:
    first, again = (answered(pipeline(given_scores), case.query)[0] for _ in range(2))
    assert shown(first) == shown(again)
    assert first.degraded == again.degraded
    assert first.explanations == again.explanations


@given(cases, rankings)
def test_an_item_names_every_source_that_brought_it(case: Case, given_scores: Float32 | None) -> None:
    (answer,) = answered(pipeline(given_scores), case.query)
    assert answer.sources == tuple(f"s{bit}" for bit in range(N_SOURCES))
    for item, bits in zip(shown(answer), answer.shown.source.tolist(), strict=True):
        named = {i for i in range(N_SOURCES) if bits >> i & 1}
        assert named == {i for i, items in enumerate(case.brought) if item in items}


@given(cases, rankings)
def test_reasons_belong_to_the_items_beside_them(case: Case, given_scores: Float32 | None) -> None:
    (answer,) = answered(pipeline(given_scores), case.query)
    if answer.shown.score is None:
        assert answer.explanations == ()
        return
    assert [e.sentence for e in answer.explanations] == [f"item {i}" for i in shown(answer)]
    assert [e.contributions[0].value for e in answer.explanations] == answer.shown.score.tolist()


def simple(*sources: FixedSource, **more: object) -> Pipeline:
    plain = Pipeline(sources=sources, blender=BestScoreBlender("blender"), hidden=hidden, user_width=0)
    return replace(plain, **more)  # type: ignore[arg-type]  # parameters of a test are wider


@pytest.mark.parametrize(
    ("personal", "session", "tier"),
    [
        (FixedSource("p", batch=batch_of([1])), False, "personalized"),
        (FixedSource("p", batch=batch_of([1])), True, "session"),
        (FixedSource("p"), False, "popular"),
        (DecliningSource("p", batch=batch_of([1])), True, "popular"),
    ],
)
def test_the_tier_says_what_the_answer_rests_on(personal: FixedSource, session: bool, tier: str) -> None:
    popular = FixedSource("popular", batch=batch_of([2, 3]), personal=False)
    (answer,) = answered(simple(personal, popular), query_of(session=session))
    assert (answer.tier, answer.degraded) == (tier, ())


def test_sources_that_find_nothing_give_an_empty_answer() -> None:
    (answer,) = answered(simple(FixedSource("a"), DecliningSource("b")), query_of())
    assert (len(answer.shown), answer.degraded, answer.explanations) == (0, (), ())


CASE = Case([[1, 2, 3], [3], [], []], [4], [], None, 2, 0.3)
ONLY = np.arange(N, dtype=np.float32)


def test_every_stage_that_ran_has_a_time_and_counts_and_the_answer_is_counted() -> None:
    counts = Counts()
    asked = replace(pipeline(ONLY, TOLD[:2]), recorder=counts)
    (answer,) = answered(asked, CASE.query)
    stages = ["features", "source:s0", "source:s1", "retrieval", "blend", "filter"]
    stages += ["ranker", "diversity", "explainer"]
    assert sorted(answer.timings_ms) == sorted(stages)
    assert all(ms >= 0 for ms in answer.timings_ms.values())
    assert (counts.answers, counts.losses) == (1, [])
    assert sorted(counts.stages) == sorted(
        [
            ("features", 0, 0), ("source:s0", 0, 3), ("source:s1", 0, 1), ("retrieval", 0, 4),
            ("blend", 4, 3), ("filter", 3, 3), ("ranker", 3, 3), ("diversity", 3, 2), ("explainer", 2, 2),
        ]
    )  # fmt: skip


def test_in_a_batch_every_request_has_its_own_counts() -> None:
    counts = Counts()
    asked = replace(pipeline(ONLY, TOLD[:1]), recorder=counts)
    answered(asked, CASE.query, replace(CASE, brought=[[7]], strength=0.0).query)
    assert counts.answers == 2
    found = {name: sorted(counted[1:] for counted in counts.stages if counted[0] == name)
             for name in ("source:s0", "filter", "ranker", "diversity")}  # fmt: skip
    assert found == {
        "source:s0": [(0, 1), (0, 3)],
        "filter": [(1, 1), (3, 3)],
        "ranker": [(1, 1), (3, 3)],
        "diversity": [(3, 2)],
    }


def test_requests_of_the_same_moment_are_one_batch_of_a_bounded_size() -> None:
    batches: list[int] = []

    @dataclass(frozen=True)
    class Watching(FixedSource):
        def retrieve(self, queries):  # type: ignore[no-untyped-def]  # as FixedSource's
            batches.append(len(queries))
            return super().retrieve(queries)

    asked = simple(Watching("s", batch=batch_of([1])), batching=BatchingConfig(max_batch=4), here=Here(POOL))
    answered(asked, *(query_of(user_id=f"u{n}") for n in range(10)))
    assert sum(batches) == 10
    assert max(batches) == 4


def test_a_request_waits_for_others_no_longer_than_it_has_time() -> None:
    """While a batch is computed, which takes longer than this request has: it goes at once, alone."""
    slow = FixedSource("s", batch=batch_of([1]), fault=lasts(0.15))
    asked = simple(
        slow, budgets=Budgets(source=1_000), batching=BatchingConfig(max_wait_ms=500), here=Here(POOL)
    )

    async def both() -> Recommendation:
        first = asyncio.create_task(asked.run(query_of(user_id="first")))
        await asyncio.sleep(0.01)
        second = await asked.run(query_of(user_id="second", deadline=0.3))
        await first
        return second

    assert run(both()).degraded == ()


def test_side_effects_see_the_answer() -> None:
    recall = Recall("recall")
    asked = simple(FixedSource("s", batch=batch_of([1])), side_effects=(recall,))
    (answer,) = answered(asked, query_of())
    assert recall.recorded == []
    run(asked.record(answer))
    assert recall.recorded == [answer]
