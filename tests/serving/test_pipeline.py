"""The executor's laws, whatever the stages bring: nothing lost, nothing twice, `count` kept, never an item
that is seen, excluded or filtered out. Faults are in `tests/faults/test_failure_policy.py`."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.diversity.mmr import MMRSelector
from serving.expressions import CatalogueFilter
from serving.filters import (
    DuplicateFilter,
    Eligibility,
    ExpressionFilter,
    HiddenFilter,
    excluded,
    seen,
)
from serving.pipeline import RecommendationPipeline
from serving.types import CandidateBatch, Diversity, Float32, Query, Recommendation
from tests.serving.doubles import (
    BestScoreBlender,
    CatalogueHydrator,
    Counts,
    FixedSource,
    HistoryHydrator,
    ItemScorer,
    NearestSource,
    Recall,
    ScoreExplainer,
    batch_of,
    catalogue_of,
    history_of,
    indices,
    query_of,
    run,
)

N = 30
CATALOGUE = catalogue_of(N)
YEARS = CATALOGUE.table.column("year").to_pylist()
RULES = CatalogueFilter(CATALOGUE)
ELIGIBILITY = Eligibility(RULES, seen, excluded)
FILTERS = (
    DuplicateFilter(),
    HiddenFilter("seen", seen),
    HiddenFilter("excluded", excluded),
    ExpressionFilter(RULES),
)

some_items = st.lists(st.integers(0, N - 1), max_size=12)
scores = st.lists(
    st.sampled_from([0.0, 0.5, 1.0, -3.0]) | st.floats(width=32, allow_nan=True), min_size=N, max_size=N
).map(lambda values: np.array(values, np.float32))


@dataclass(frozen=True)
class Case:
    brought: list[list[int]]
    history: list[int]
    exclude: list[int]
    since: int | None
    count: int
    strength: float
    scores: Float32 | None

    @property
    def query(self) -> Query:
        return query_of(
            exclude=indices(self.exclude),
            filter=None if self.since is None else {"year": {"gte": self.since}},
            count=self.count,
            diversity=Diversity("mmr", self.strength),
            explain=True,
        )

    @property
    def eligible(self) -> set[int]:
        """By hand, from the catalogue's rows."""
        since = self.since
        matching = {i for i, y in enumerate(YEARS) if since is None or (y is not None and y >= since)}
        return matching - set(self.history) - set(self.exclude)

    def pipeline(self, *sources: FixedSource | NearestSource) -> RecommendationPipeline:
        return RecommendationPipeline(
            sources=sources,
            blender=BestScoreBlender("blender"),
            filters=FILTERS,
            query_hydrators=(HistoryHydrator("history", history=history_of(self.history)),),
            hydrators=(CatalogueHydrator("items", features=CATALOGUE.features),),
            scorer=None if self.scores is None else ItemScorer("scorer", scores=self.scores),
            selector=MMRSelector(CATALOGUE.features, pool=10),
            explainer=ScoreExplainer("explainer"),
        )

    def fixed(self) -> RecommendationPipeline:
        return self.pipeline(
            *(FixedSource(f"s{i}", batch=batch_of(items)) for i, items in enumerate(self.brought))
        )


cases = st.builds(
    Case,
    brought=st.lists(some_items.map(lambda items: list(dict.fromkeys(items))), min_size=1, max_size=4),
    history=some_items,
    exclude=some_items,
    since=st.none() | st.integers(1980, 2000),
    count=st.integers(1, 15),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    scores=st.none() | scores,
)


@given(cases)
def test_nothing_lost_nothing_twice_nothing_forbidden(case: Case) -> None:
    answer = run(case.fixed().run(case.query))
    items = answer.batch.item_index.tolist()
    candidates = {item for items in case.brought for item in items} & case.eligible
    assert len(items) == len(set(items)) == min(case.count, len(candidates))
    assert set(items) <= candidates


@given(cases)
def test_a_narrow_filter_still_fills_the_answer(case: Case) -> None:
    """Sources that choose among eligible items bring enough, however few those are."""
    nearest = NearestSource("near", vectors=CATALOGUE.features, eligible=ELIGIBILITY.mask, k=case.count)
    answer = run(case.pipeline(nearest).run(case.query))
    assert set(answer.batch.item_index.tolist()) <= case.eligible
    assert len(answer.batch) == min(case.count, len(case.eligible))


@given(cases)
def test_without_diversity_the_best_come_in_order(case: Case) -> None:
    case = replace(case, strength=0.0)
    answer = run(case.fixed().run(case.query)).batch
    best = {item: -i for items in case.brought for i, item in reversed(list(enumerate(items)))}
    given_scores = case.scores
    if given_scores is None or not any(np.isfinite(given_scores[answer.item_index])):
        assert (np.diff(answer.retrieval_score) <= 0).all()
        assert set(answer.item_index.tolist()) <= set(best)
        return
    value = np.where(np.isfinite(given_scores), given_scores, -np.inf)
    candidates = sorted({i for items in case.brought for i in items} & case.eligible, key=lambda i: -value[i])
    shown = value[answer.item_index]
    assert shown.tolist() == value[candidates[: case.count]].tolist()
    assert answer.score is not None
    assert np.isfinite(answer.score).all()
    assert (np.diff(answer.score) <= 0).all()


@given(cases)
def test_the_same_question_gets_the_same_answer(case: Case) -> None:
    first, again = (run(case.fixed().run(case.query)) for _ in range(2))
    assert first.batch.item_index.tolist() == again.batch.item_index.tolist()
    assert first.degraded == again.degraded
    assert first.explanations == again.explanations


@given(cases)
def test_an_item_names_every_source_that_brought_it(case: Case) -> None:
    answer = run(case.fixed().run(case.query))
    for item, bits in zip(answer.batch.item_index.tolist(), answer.batch.source.tolist(), strict=True):
        named = {i for i in range(len(answer.sources)) if bits >> i & 1}
        assert named == {i for i, items in enumerate(case.brought) if item in items}


@given(cases)
def test_reasons_belong_to_the_items_beside_them(case: Case) -> None:
    answer = run(case.fixed().run(case.query))
    if answer.batch.score is None:
        assert answer.explanations == ()
        return
    assert [e.sentence for e in answer.explanations] == [f"item {i}" for i in answer.batch.item_index]
    assert [e.contributions[0].value for e in answer.explanations] == answer.batch.score.tolist()


@given(st.lists(some_items, max_size=4), st.data())
def test_concat_then_take_is_take_of_the_parts(parts: list[list[int]], data: st.DataObject) -> None:
    batches = [batch_of(items).with_source(bit) for bit, items in enumerate(parts)]
    whole = CandidateBatch.concat(batches)
    flat = [(item, 1 << bit) for bit, items in enumerate(parts) for item in items]
    assert list(zip(whole.item_index.tolist(), whole.source.tolist(), strict=True)) == flat

    rows = data.draw(st.permutations(range(len(flat))))
    taken = whole.take(np.array(rows, np.intp))
    assert list(zip(taken.item_index.tolist(), taken.source.tolist(), strict=True)) == [flat[r] for r in rows]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(flat), max_size=len(flat))), np.bool_)
    assert whole.take(mask).item_index.tolist() == whole.take(np.flatnonzero(mask)).item_index.tolist()


def test_features_and_scores_survive_concat_only_where_all_have_them() -> None:
    plain = batch_of([1, 2])
    full = plain.with_features(np.ones((2, 3), np.float32)).with_score(np.zeros(2, np.float32))
    both = CandidateBatch.concat([full, full])
    assert both.features is not None
    assert both.score is not None
    assert (both.features.shape, both.score.shape) == ((4, 3), (4,))
    assert both.take(np.array([3])).features is not None
    mixed = CandidateBatch.concat([full, plain])
    assert (mixed.features, mixed.score) == (None, None)
    assert len(CandidateBatch.concat([])) == 0


def answer_of(*sources: FixedSource, session: bool = False) -> Recommendation:
    pipeline = RecommendationPipeline(sources=sources, blender=BestScoreBlender("blender"))
    return run(pipeline.run(query_of(session=session)))


@pytest.mark.parametrize(
    ("personal", "session", "tier"),
    [
        (FixedSource("p", batch=batch_of([1])), False, "personalized"),
        (FixedSource("p", batch=batch_of([1])), True, "session"),
        (FixedSource("p"), False, "popular"),
        (FixedSource("p", wanted=False), True, "popular"),
    ],
)
def test_the_tier_says_what_the_answer_rests_on(personal: FixedSource, session: bool, tier: str) -> None:
    popular = FixedSource("popular", batch=batch_of([2, 3]), personal=False)
    answer = answer_of(personal, popular, session=session)
    assert (answer.tier, answer.degraded) == (tier, ())


def test_sources_that_find_nothing_give_an_empty_answer() -> None:
    answer = answer_of(FixedSource("a"), FixedSource("b", wanted=False))
    assert (len(answer.batch), answer.degraded, answer.explanations) == (0, (), ())


def test_every_stage_that_ran_has_a_time_and_the_answer_is_counted() -> None:
    case = Case([[1, 2, 3]], [4], [], None, 2, 0.3, np.arange(N, dtype=np.float32))
    counts = Counts()
    answer = run(replace(case.fixed(), recorder=counts).run(case.query))
    stages = ["features", "source:s0", "retrieval", "blend", "filter", "ranker", "diversity", "explainer"]
    assert sorted(answer.timings_ms) == sorted(stages)
    assert (counts.answers, counts.losses) == (1, [])
    assert answer.query.feature_age_s == 1.0


def test_side_effects_see_the_answer() -> None:
    recall = Recall("recall")
    pipeline = RecommendationPipeline(
        sources=(FixedSource("s", batch=batch_of([1])),),
        blender=BestScoreBlender("b"),
        side_effects=(recall,),
    )
    answer = run(pipeline.run(query_of()))
    assert recall.recorded == []
    run(pipeline.record(answer))
    assert recall.recorded == [answer]
