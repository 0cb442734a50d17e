"""The laws of `serving.stages`, for every implementation: a new stage is appended to its list below.

A factory builds its stage over the `World` given; laws are then tried on random queries and batches.
"""

import copy
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.diversity.mmr import MMRSelector
from serving.explain.attribution import RankerExplainer
from serving.expressions import CatalogueFilter
from serving.filters import (
    DuplicateFilter,
    Eligibility,
    ExpressionFilter,
    HiddenFilter,
    excluded,
    named,
    seen,
)
from serving.hydrators import UserHydrator
from serving.ranking.ranker import AdditiveScorer, RankingHydrator
from serving.retrieval.blend import CalibratedBlender, Cascade
from serving.retrieval.index import ExactIndex
from serving.retrieval.linear import LinearSource
from serving.retrieval.named import NamedItems
from serving.retrieval.popular import PopularSource
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.two_tower import TwoTowerSource
from serving.stages import (
    Blender,
    Explainer,
    Filter,
    Hydrator,
    QueryHydrator,
    Scorer,
    Selector,
    Source,
    Stage,
)
from serving.types import CandidateBatch, Diversity, Float32, Query
from tests.serving import doubles, models
from training.catalogue import Catalogue
from training.feedback import Feedback

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Attributes: `vectors` float32 [n, d], a row an item; `n_sources` bits a source mask may hold;
    `small` real models over as many items."""

    n: int = models.N_ITEMS
    n_sources: int = 3

    @cached_property
    def small(self) -> models.Small:
        return models.small()

    @cached_property
    def rows(self) -> Float32:
        """float32 [n, f]: a row an item, as wide as the ranker's, of any values."""
        width = len(self.small.ranker.names)
        return np.random.default_rng(2).standard_normal((self.n, width)).astype(np.float32)

    @cached_property
    def catalogue(self) -> Catalogue:
        return doubles.catalogue_of(self.n)

    @cached_property
    def vectors(self) -> Float32:
        return np.random.default_rng(1).standard_normal((self.n, 8)).astype(np.float32)

    @cached_property
    def rules(self) -> CatalogueFilter:
        return CatalogueFilter(self.catalogue)

    @cached_property
    def eligibility(self) -> Eligibility:
        return Eligibility(self.rules, seen, excluded)


WORLD = World()
Factory = Callable[[World], T]

QUERY_HYDRATORS: list[Factory[QueryHydrator]] = [
    lambda world: doubles.HistoryHydrator("history", history=doubles.history_of([1, 2])),
    lambda world: UserHydrator(
        world.small.store(), world.small.schema, world.small.data.catalogue, Feedback()
    ),
]
SOURCES: list[Factory[Source]] = [
    lambda world: doubles.NearestSource("nearest", vectors=world.vectors, eligible=world.eligibility.mask),
    lambda world: TwoTowerSource(
        world.small.models.two_tower,
        ExactIndex(world.small.models.two_tower.item_vectors),
        world.eligibility.mask,
        limit=10,
    ),
    lambda world: LinearSource("ease", world.small.models.ease, world.eligibility.mask, limit=10),
    lambda world: LinearSource("sequential", world.small.models.sequential, world.eligibility.mask, 10),
    lambda world: PopularSource(world.small.models.statistics, world.eligibility.mask, limit=10),
    lambda world: SimilarByBehaviour(world.small.models.ease, world.eligibility.mask, limit=10),
    lambda world: SimilarByContent(world.catalogue.features, world.eligibility.mask, limit=10),
]
TOLD: list[Factory[Source]] = [lambda world: NamedItems(world.small.models.statistics)]
"""Sources that choose nothing: they bring what the request names, seen or not."""
BLENDERS: list[Factory[Blender]] = [
    lambda world: doubles.BestScoreBlender("best"),
    lambda world: CalibratedBlender(world.small.blend, ("popular", "ease", "two_tower"), limit=10),
    lambda world: Cascade(),
]
FILTERS: list[Factory[Filter]] = [
    lambda world: DuplicateFilter(),
    lambda world: HiddenFilter("seen", seen),
    lambda world: HiddenFilter("excluded", excluded),
    lambda world: HiddenFilter("named", named),
    lambda world: ExpressionFilter(world.rules),
]
HYDRATORS: list[Factory[Hydrator]] = [
    lambda world: doubles.CatalogueHydrator("catalogue", features=world.catalogue.features),
    lambda world: RankingHydrator(world.small.features),
]
SCORERS: list[Factory[Scorer]] = [
    lambda world: doubles.ItemScorer("item", scores=world.vectors[:, 0]),
    lambda world: AdditiveScorer(world.small.ranker),
]
SELECTORS: list[Factory[Selector]] = [
    lambda world: doubles.LastSelector("last"),
    lambda world: MMRSelector(world.vectors, pool=10),
    lambda world: MMRSelector(world.vectors, pool=1_000),
]
EXPLAINERS: list[Factory[Explainer]] = [
    lambda world: doubles.ScoreExplainer("score"),
    lambda world: RankerExplainer(
        world.small.features,
        world.small.ranker,
        {"together": world.small.models.ease, "next": world.small.models.sequential},
        world.catalogue.titles,
        terms=3,
        feedback=Feedback(),
    ),
]

items = st.lists(st.integers(0, WORLD.n - 1), max_size=15)
expressions = st.sampled_from(
    [None, {"genres": {"any": ["Drama"]}}, {"year": {"gte": 1990}, "genres": {"none": ["War"]}}]
)
queries = st.builds(
    lambda **given_fields: doubles.query_of(**given_fields),
    user_id=st.sampled_from([None, "nobody", "u1", "u4", models.SILENT]),
    count=st.integers(1, 20),
    history=items.map(doubles.history_of),
    exclude=items.map(doubles.indices),
    seen=st.sampled_from(["exclude", "allow"]),
    met=items.map(doubles.indices),
    disliked=items.map(doubles.indices),
    items=items.map(doubles.indices),
    filter=expressions,
    session=st.booleans(),
    diversity=st.builds(Diversity, st.sampled_from(["none", "mmr"]), st.sampled_from([0.0, 0.3, 1.0])),
    explain=st.booleans(),
)


@st.composite
def batches(draw: st.DrawFn, distinct: bool = True) -> CandidateBatch:
    """Best first, with source bits, without features or scores."""
    drawn = draw(items)
    rows = list(dict.fromkeys(drawn)) if distinct else drawn
    scores = sorted(draw(st.lists(st.floats(0, 1, width=32), min_size=len(rows), max_size=len(rows))))[::-1]
    bits = draw(st.lists(st.integers(1, 2**WORLD.n_sources - 1), min_size=len(rows), max_size=len(rows)))
    batch = doubles.batch_of(rows, scores)
    return CandidateBatch(batch.item_index, np.array(bits, np.uint32), batch.retrieval_score)


@st.composite
def ranked(draw: st.DrawFn) -> CandidateBatch:
    """As the executor hands it to selectors and explainers."""
    batch = draw(batches())
    return batch.with_features(WORLD.rows[batch.item_index]).with_score(batch.retrieval_score * 3)


def each(factories: list[Factory[Any]]) -> pytest.MarkDecorator:
    built = [factory(WORLD) for factory in factories]
    return pytest.mark.parametrize("stage", built, ids=[stage.name for stage in built])


def frozen(value: Any) -> Any:
    """Comparable, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return tuple(frozen(getattr(value, field.name)) for field in fields(value))
    return tuple(frozen(part) for part in value) if isinstance(value, tuple | list) else value


def twice(work: Callable[[], Coroutine[Any, Any, T]], *arguments: Any) -> T:
    """The result, after checking that a second run repeats it and that no argument was written to."""
    before = frozen(copy.deepcopy(arguments))
    result = doubles.run(work())
    assert frozen(doubles.run(work())) == frozen(result)
    assert frozen(arguments) == before
    return result


def same_items(before: CandidateBatch, after: CandidateBatch) -> None:
    for name in ("item_index", "source", "retrieval_score"):
        assert frozen(getattr(after, name)) == frozen(getattr(before, name))


@each(QUERY_HYDRATORS + SOURCES + TOLD + BLENDERS + FILTERS + HYDRATORS + SCORERS + SELECTORS + EXPLAINERS)
@given(query=queries)
def test_every_stage_has_a_name_and_may_decline(stage: Stage, query: Query) -> None:
    before = frozen(query)
    assert stage.name
    assert stage.enabled(query) in (True, False)
    assert frozen(query) == before


@each(QUERY_HYDRATORS)
@given(query=queries)
def test_a_query_hydrator_fills_in_the_user_and_nothing_else(stage: QueryHydrator, query: Query) -> None:
    if not stage.enabled(query):
        return
    hydrated = twice(lambda: stage.hydrate_query(query), query)
    filled = {"history", "met", "disliked", "user_features", "feature_age_s", "user_version"}
    for field in fields(Query):
        if field.name not in filled:
            assert frozen(getattr(hydrated, field.name)) == frozen(getattr(query, field.name)), field.name
    assert (hydrated.history.item_index >= 0).all()
    assert (np.diff(hydrated.history.timestamp) >= 0).all()


@each(SOURCES + TOLD)
@given(query=queries)
def test_a_source_brings_items_best_first_none_twice(stage: Source, query: Query) -> None:
    if not stage.enabled(query):
        return
    batch = twice(lambda: stage.retrieve(query), query)
    assert (batch.item_index.dtype, batch.retrieval_score.dtype) == (np.int32, np.float32)
    assert len(batch) == len(batch.retrieval_score) == len(batch.source)
    assert len(np.unique(batch.item_index)) == len(batch)
    assert np.isfinite(batch.retrieval_score).all()
    assert (np.diff(batch.retrieval_score) <= 0).all()


@each(SOURCES)
@given(query=queries)
def test_a_source_that_chooses_brings_eligible_items_only(stage: Source, query: Query) -> None:
    if stage.enabled(query):
        batch = doubles.run(stage.retrieve(query))
        assert WORLD.eligibility.mask(query)[batch.item_index].all()


@each(BLENDERS)
@given(
    query=queries, brought=st.lists(st.none() | batches(), min_size=WORLD.n_sources, max_size=WORLD.n_sources)
)
def test_a_blender_joins_sources_and_invents_nothing(
    stage: Blender, query: Query, brought: list[CandidateBatch | None]
) -> None:
    brought = [None if batch is None else batch.with_source(bit) for bit, batch in enumerate(brought)]
    before = frozen(brought)
    blended = stage.blend(query, brought)
    assert frozen(stage.blend(query, brought)) == frozen(blended)
    assert frozen(brought) == before
    bits: dict[int, int] = {}
    for bit, batch in enumerate(brought):
        for item in [] if batch is None else batch.item_index.tolist():
            bits[item] = bits.get(item, 0) | 1 << bit
    shown = dict(zip(blended.item_index.tolist(), blended.source.tolist(), strict=True))
    assert len(shown) == len(blended)
    assert shown.items() <= bits.items()
    assert (np.diff(blended.retrieval_score) <= 0).all()


@each(FILTERS)
@given(query=queries, batch=batches(distinct=False))
def test_a_filter_is_a_pure_mask(stage: Filter, query: Query, batch: CandidateBatch) -> None:
    before = frozen((query, batch))
    keep = stage.keep(query, batch)
    assert (keep.dtype, keep.shape) == (np.bool_, (len(batch),))
    assert keep.tolist() == stage.keep(query, batch).tolist()
    assert frozen((query, batch)) == before
    assert stage.keep(query, batch.take(keep)).all()  # what stayed would stay again
    if not stage.enabled(query):
        assert keep.all()


@each(HYDRATORS)
@given(query=queries, batch=batches())
def test_a_hydrator_keeps_rows_and_adds_features(
    stage: Hydrator, query: Query, batch: CandidateBatch
) -> None:
    hydrated = twice(lambda: stage.hydrate(query, batch), query, batch)
    same_items(batch, hydrated)
    assert hydrated.features is not None
    assert (hydrated.features.dtype, len(hydrated.features)) == (np.float32, len(batch))


@each(SCORERS)
@given(query=queries, batch=ranked())
def test_a_scorer_keeps_rows_and_sets_a_score(stage: Scorer, query: Query, batch: CandidateBatch) -> None:
    scored = twice(lambda: stage.score(query, batch), query, batch)
    same_items(batch, scored)
    assert scored.score is not None
    assert (scored.score.dtype, scored.score.shape) == (np.float32, (len(batch),))


@each(SELECTORS)
@given(query=queries, batch=ranked())
def test_a_selector_picks_count_distinct_rows(stage: Selector, query: Query, batch: CandidateBatch) -> None:
    chosen = twice(lambda: stage.select(query, batch), query, batch).tolist()
    assert len(set(chosen)) == len(chosen) == min(query.count, len(batch))
    assert all(0 <= row < len(batch) for row in chosen)


@each(EXPLAINERS)
@given(query=queries, batch=ranked())
def test_an_explainer_explains_each_row(stage: Explainer, query: Query, batch: CandidateBatch) -> None:
    explained = twice(lambda: stage.explain(query, batch), query, batch)
    assert len(explained) == len(batch)
    for explanation in explained:
        strengths = [abs(term.contribution) for term in explanation.contributions]
        assert strengths == sorted(strengths, reverse=True)
        if explanation.anchor_index is not None:
            assert explanation.anchor_index in query.history.item_index
            assert explanation.sentence
