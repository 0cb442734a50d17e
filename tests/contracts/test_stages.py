"""The laws of `serving.stages`, for every implementation: a new stage is appended to its list below.

A factory builds its stage over the `World` given; laws are then tried on random batches: rows of unequal
length and empty ones, unknown users, filters, exclusions, a moment of its own for each request. One law is
common to all: a batch equals its singles.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batch import Candidates, Queries
from serving.columns import RankingHydrator
from serving.diversity.mmr import MMRSelector
from serving.eligibility import Eligibility
from serving.explain.attribution import RankerExplainer
from serving.expressions import CatalogueFilter
from serving.filters import DuplicateFilter, EligibleFilter
from serving.hydrators import UserHydrator
from serving.ranking.ranker import RankerScorer
from serving.retrieval.blend import CalibratedBlender, Cascade
from serving.retrieval.named import NamedItems
from serving.retrieval.similar import SimilarByBehaviour, SimilarByContent
from serving.retrieval.sources import ModelSource, PopularSource, VectorSource
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
from serving.types import Diversity, Float32, Mask, Query
from tests.serving import doubles, models
from training.catalogue import Catalogue
from training.feedback import Feedback
from training.models.dcn.estimator import fit_dcn
from training.models.dcn.model import DcnRanker
from training.models.dcn.options import DcnOptions
from training.models.index import ExactIndex
from training.models.ragged import Ragged
from training.models.ranker import Ranker
from training.models.ranking_features import NAMES
from training.models.ranking_lists import RankingLists

T = TypeVar("T")
CLOSE = 1e-4
"""How close a batch comes to its singles: products of matrices and of vectors round otherwise."""


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
    def dcn(self) -> DcnRanker:
        """A ranker of another kind, of the same features."""
        features = np.random.default_rng(3).standard_normal((30, 5, len(NAMES)), dtype=np.float32)
        lists = RankingLists(NAMES, features, np.ones((30, 5), np.bool_))
        return fit_dcn(lists, DcnOptions(steps=10))

    @cached_property
    def columns(self) -> dict[str, Float32]:
        """The ranker's, float32 [n] each: a value an item, of any size."""
        rows = np.random.default_rng(2).standard_normal((len(NAMES), self.n)).astype(np.float32)
        return dict(zip(NAMES, rows, strict=True))

    @cached_property
    def catalogue(self) -> Catalogue:
        return doubles.catalogue_of(self.n)

    @cached_property
    def vectors(self) -> Float32:
        return np.random.default_rng(1).standard_normal((self.n, 8)).astype(np.float32)

    @cached_property
    def eligibility(self) -> Eligibility:
        return Eligibility(CatalogueFilter(self.catalogue))


WORLD = World()
Factory = Callable[[World], T]


def of_model(name: str) -> Factory[Source]:
    return lambda world: ModelSource(name, name, world.small.models, world.eligibility, limit=10)


def explains(world: World, ranker: Ranker) -> Explainer:
    linear = world.small.models.linear
    anchors = {"together": linear["ease"], "next": linear["sequential"]}
    return RankerExplainer(
        RankingHydrator(world.small.models), ranker, anchors, world.catalogue.titles, 3, Feedback()
    )


QUERY_HYDRATORS: list[Factory[QueryHydrator]] = [
    lambda world: doubles.HistoryHydrator("history", history=doubles.history_of([1, 2])),
    lambda world: UserHydrator(
        world.small.store(), world.small.schema, world.small.data.catalogue, Feedback()
    ),
]
SOURCES: list[Factory[Source]] = [
    lambda world: doubles.NearestSource("nearest", vectors=world.vectors, eligibility=world.eligibility),
    of_model("two_tower"),
    of_model("ease"),
    of_model("sequential"),
    lambda world: VectorSource(
        "index",
        world.small.models,
        ExactIndex(world.small.models.two_tower.item_vectors),
        world.eligibility,
        limit=10,
    ),
    lambda world: PopularSource(world.small.models.statistics, world.eligibility, limit=10),
    lambda world: SimilarByBehaviour(world.small.models.linear["ease"], world.eligibility, limit=10),
    lambda world: SimilarByContent(world.catalogue.features, world.eligibility, limit=10),
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
    lambda world: EligibleFilter(world.eligibility),
]
HYDRATORS: list[Factory[Hydrator]] = [
    lambda world: doubles.CatalogueHydrator("catalogue", features=world.catalogue.features),
    lambda world: RankingHydrator(world.small.models),
]
SCORERS: list[Factory[Scorer]] = [
    lambda world: doubles.ItemScorer("item", scores=world.vectors[:, 0]),
    lambda world: RankerScorer(world.small.ranker),
    lambda world: RankerScorer(world.dcn),
]
SELECTORS: list[Factory[Selector]] = [
    lambda world: doubles.LastSelector("last"),
    lambda world: MMRSelector(world.vectors, pool=10),
    lambda world: MMRSelector(world.vectors, pool=1_000),
]
EXPLAINERS: list[Factory[Explainer]] = [
    lambda world: doubles.ScoreExplainer("score"),
    lambda world: explains(world, world.small.ranker),
    lambda world: explains(world, world.dcn),
]

items = st.lists(st.integers(0, WORLD.n - 1), max_size=15)
expressions = st.sampled_from(
    [None, {"genres": {"any": ["Drama"]}}, {"year": {"gte": 1990}, "genres": {"none": ["War"]}}]
)
WIDTH = WORLD.small.schema.user_width
queries = st.builds(
    lambda **given_fields: doubles.query_of(**given_fields),
    user_id=st.sampled_from([None, "nobody", "u1", "u4", models.SILENT]),
    now=st.integers(0, 40).map(lambda days: WORLD.small.now - 86_400 * days),
    count=st.integers(1, 20),
    history=items.map(doubles.history_of),
    user_features=st.none()
    | st.integers(0, 9).map(lambda seed: np.random.default_rng(seed).random(WIDTH).astype(np.float32)),
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
several = st.lists(queries, min_size=1, max_size=4).map(
    lambda asked: doubles.queries_of(*asked, user_width=WIDTH)
)


@st.composite
def candidates_of(draw: st.DrawFn, b: int, distinct: bool = True) -> Candidates:
    """For each of b requests best first, with source bits, without columns or scores."""
    rows = [draw(items) for _ in range(b)]
    lists = [list(dict.fromkeys(row)) if distinct else row for row in rows]
    total = sum(map(len, lists))
    scores, bits = (
        draw(st.lists(each, min_size=total, max_size=total))
        for each in (st.floats(0, 1, width=32), st.integers(1, 2**WORLD.n_sources - 1))
    )
    found = doubles.batch_of(*lists, scores=scores)
    order = np.lexsort((-found.retrieval_score, found.row))
    return Candidates(
        found.row_splits, found.item_index, np.array(bits, np.uint32), found.retrieval_score[order]
    )


def asked_with(distinct: bool = True, ranked: bool = False) -> st.SearchStrategy[tuple[Queries, Candidates]]:
    """Requests and their candidates; `ranked`: as the executor hands them to selectors and explainers."""

    def complete(found: Candidates) -> Candidates:
        columns = {name: column[found.item_index] for name, column in WORLD.columns.items()}
        return found.with_columns(columns).with_score(found.retrieval_score * 3) if ranked else found

    return several.flatmap(
        lambda asked: st.tuples(st.just(asked), candidates_of(len(asked), distinct).map(complete))
    )


brought_lists = several.flatmap(
    lambda asked: st.tuples(
        st.just(asked),
        st.lists(
            st.none() | candidates_of(len(asked)), min_size=WORLD.n_sources, max_size=WORLD.n_sources
        ).map(lambda lists: [None if one is None else one.with_source(bit) for bit, one in enumerate(lists)]),
    )
)


def is_column(column: np.ndarray, dtype: type[np.generic], length: int) -> bool:
    return column.dtype == dtype and column.shape == (length,)


def each(factories: Sequence[Factory[Any]]) -> Callable[[Any], Any]:
    """Of few examples: each is of several requests, and there are many stages."""
    built = [factory(WORLD) for factory in factories]
    over = pytest.mark.parametrize("stage", built, ids=[stage.name for stage in built])
    return lambda law: settings(max_examples=40)(over(law))


def frozen(value: Any) -> Any:
    """Comparable, arrays by their bytes; what a batch remembers for itself is not part of it."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return tuple(frozen(getattr(value, field.name)) for field in fields(value) if field.compare)
    if isinstance(value, dict):
        return tuple((name, frozen(part)) for name, part in value.items())
    return tuple(frozen(part) for part in value) if isinstance(value, tuple | list) else value


def twice(work: Callable[..., T], *arguments: Any) -> T:
    """The result, after checking that a second run repeats it and that no argument was written to."""
    before = frozen(copy.deepcopy(arguments))
    result = work(*arguments)
    assert frozen(work(*arguments)) == frozen(result)
    assert frozen(arguments) == before
    return result


def parts(stage: Stage, asked: Queries) -> np.ndarray:
    """The requests that the stage is for."""
    return np.flatnonzero(stage.takes(asked))


def single(asked: Queries, row: int) -> Queries:
    """The request alone, as if it had never been in a batch."""
    return asked.take(np.array([row])).bare()


def same_items(before: Candidates, after: Candidates) -> None:
    for name in ("row_splits", "item_index", "source", "retrieval_score"):
        assert frozen(getattr(after, name)) == frozen(getattr(before, name))


def equal_but_for_rounding(one: Candidates, other: Candidates) -> None:
    """Score for score; what changes places in between had the same score, but for rounding."""
    assert one.row_splits.tolist() == other.row_splits.tolist()
    np.testing.assert_allclose(one.retrieval_score, other.retrieval_score, rtol=CLOSE, atol=CLOSE)
    for ours, theirs, score in zip(one.item_index, other.item_index, one.retrieval_score, strict=True):
        if ours != theirs:
            assert (np.abs(one.retrieval_score - score) < 1e-3).sum() > 1, "not a tie"


EVERY = SOURCES + TOLD + FILTERS + HYDRATORS + SCORERS + SELECTORS + EXPLAINERS


@each(EVERY)
@given(asked=several)
def test_a_stage_has_a_name_and_says_which_requests_it_is_for(stage: Stage, asked: Queries) -> None:
    assert stage.name
    for_them = twice(stage.takes, asked)
    assert is_column(for_them, np.bool_, len(asked))
    assert type(stage).takes(asked).tolist() == for_them.tolist()  # the class can say it, too
    for row in range(len(asked)):
        assert stage.takes(single(asked, row)).tolist() == [for_them[row]]


@each(QUERY_HYDRATORS)
@given(asked=st.lists(queries, max_size=5))
def test_a_query_hydrator_fills_in_the_user_and_nothing_else(
    stage: QueryHydrator, asked: list[Query]
) -> None:
    asked = [query for query in asked if stage.enabled(query)]
    filled = {"history", "met", "disliked", "user_features", "feature_age_s", "user_version"}
    for query, hydrated in zip(asked, doubles.run(stage.hydrate(asked)), strict=True):
        for field in fields(Query):
            if field.name not in filled:
                assert frozen(getattr(hydrated, field.name)) == frozen(getattr(query, field.name)), field.name
        assert (hydrated.history.item_index >= 0).all()
        assert (np.diff(hydrated.history.timestamp) >= 0).all()
        (alone,) = doubles.run(stage.hydrate([query]))
        assert frozen(hydrated) == frozen(alone)
        kept = stage.kept(query)
        assert kept is None or frozen(kept) == frozen(alone)


@each(SOURCES + TOLD)
@given(asked=several)
def test_a_source_brings_items_best_first_none_twice(stage: Source, asked: Queries) -> None:
    asked = asked.take(parts(stage, asked))
    if not len(asked):
        return
    found = twice(stage.retrieve, asked)
    assert is_column(found.item_index, np.int32, int(found.row_splits[-1]))
    assert is_column(found.retrieval_score, np.float32, int(found.row_splits[-1]))
    assert len(found) == len(asked)
    assert len(found.item_index) == len(found.retrieval_score) == len(found.source) == found.row_splits[-1]
    assert np.isfinite(found.retrieval_score).all()
    for items_of_one, scores in zip(found.items, rows_of(found, found.retrieval_score), strict=True):
        assert len(np.unique(items_of_one)) == len(items_of_one)
        assert (np.diff(scores) <= 0).all()


def rows_of(found: Candidates, values: Any) -> Ragged[Any]:
    return Ragged(values, found.row_splits)


@each(SOURCES)
@given(asked=several)
def test_a_source_that_chooses_brings_eligible_items_only(stage: Source, asked: Queries) -> None:
    asked = asked.take(parts(stage, asked))
    if len(asked):
        assert WORLD.eligibility.of(asked).allows(stage.retrieve(asked).items).all()


@each(SOURCES + TOLD)
@given(asked=several)
def test_what_a_source_brings_in_a_batch_it_brings_to_each_alone(stage: Source, asked: Queries) -> None:
    asked = asked.take(parts(stage, asked))
    if not len(asked):
        return
    found = stage.retrieve(asked)
    longest = int(asked.count.max())
    for row in range(len(asked)):
        alone = stage.retrieve(single(asked, row))
        ours, fewer = found.take(np.array([row])), len(alone.item_index)
        if ours.lengths[0] > fewer:  # the most that a request of the batch wants is brought to all
            assert fewer >= min(asked.count[row], ours.lengths[0])
            assert ours.lengths[0] <= max(10, longest)
        ours = ours.keep(np.arange(len(ours.item_index)) < fewer)
        equal_but_for_rounding(ours, alone)


@each(BLENDERS)
@given(case=brought_lists)
def test_a_blender_joins_sources_and_invents_nothing(
    stage: Blender, case: tuple[Queries, list[Candidates | None]]
) -> None:
    asked, brought = case
    assert stage.name
    blended = twice(stage.blend, asked, brought)
    assert len(blended) == len(asked)
    for row in range(len(asked)):
        bits: dict[int, int] = {}
        for bit, one in enumerate(brought):
            for item in [] if one is None else one.items[row].tolist():
                bits[item] = bits.get(item, 0) | 1 << bit
        mine = blended.take(np.array([row]))
        shown = dict(zip(mine.item_index.tolist(), mine.source.tolist(), strict=True))
        assert len(shown) == len(mine.item_index)
        assert shown.items() <= bits.items()
        assert (np.diff(mine.retrieval_score) <= 0).all()


@each(BLENDERS)
@given(case=brought_lists)
def test_a_blend_of_a_batch_is_the_blend_of_each(
    stage: Blender, case: tuple[Queries, list[Candidates | None]]
) -> None:
    asked, brought = case
    blended = stage.blend(asked, brought)
    for row in range(len(asked)):
        alone = [None if one is None else one.take(np.array([row])) for one in brought]
        same_items(stage.blend(single(asked, row), alone), blended.take(np.array([row])))


@each(FILTERS)
@given(case=asked_with(distinct=False))
def test_a_filter_is_a_pure_mask_and_the_same_for_each_alone(
    stage: Filter, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    keep: Mask = twice(stage.keep, asked, found)
    assert is_column(keep, np.bool_, len(found.item_index))
    assert stage.keep(asked, found.keep(keep)).all()  # what stayed would stay again
    for row in range(len(asked)):
        alone = stage.keep(single(asked, row), found.take(np.array([row])))
        assert alone.tolist() == rows_of(found, keep)[row].tolist()
        if not stage.takes(asked)[row]:
            assert alone.all()


@each(HYDRATORS)
@given(case=asked_with())
def test_a_hydrator_keeps_rows_and_adds_the_columns_it_provides(
    stage: Hydrator, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    given_columns = {name: np.zeros(len(found.item_index), np.float32) for name in (*stage.requires, "mine")}
    found = found.with_columns(given_columns)
    hydrated = twice(stage.hydrate, asked, found)
    same_items(found, hydrated)
    assert set(hydrated.columns) == {*given_columns, *stage.provides}
    for column in hydrated.columns.values():
        assert is_column(column, np.float32, len(found.item_index))
    for row in range(len(asked)):
        alone = stage.hydrate(single(asked, row), found.take(np.array([row])))
        for name, column in hydrated.columns.items():
            np.testing.assert_allclose(
                alone.columns[name], rows_of(found, column)[row], rtol=CLOSE, atol=CLOSE
            )


@each(SCORERS)
@given(case=asked_with(ranked=True))
def test_a_scorer_gives_each_candidate_a_score_by_itself_and_the_columns_it_requires(
    stage: Scorer, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    score = twice(stage.score, asked, found)
    assert is_column(score, np.float32, len(found.item_index))
    assert np.isfinite(score).all()
    needed = {name: found.columns[name] for name in stage.requires}
    bare = Candidates(found.row_splits, found.item_index, found.source, found.retrieval_score, None, needed)
    for row in range(len(asked)):
        alone = stage.score(single(asked, row), bare.take(np.array([row])))
        np.testing.assert_allclose(alone, rows_of(found, score)[row], rtol=CLOSE, atol=CLOSE)


@each(SCORERS)
@given(case=asked_with(ranked=True))
def test_a_scorer_that_lacks_a_column_it_requires_fails(
    stage: Scorer, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    for name in stage.requires:
        columns = {other: column for other, column in found.columns.items() if other != name}
        lacking = Candidates(
            found.row_splits, found.item_index, found.source, found.retrieval_score, None, columns
        )
        with pytest.raises(KeyError, match=name):
            stage.score(asked, lacking)


@each(SELECTORS)
@given(case=asked_with(ranked=True))
def test_a_selector_picks_count_distinct_rows_of_each_request(
    stage: Selector, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    chosen = twice(stage.select, asked, found)
    assert chosen.values.dtype == np.int64
    assert chosen.lengths.tolist() == np.minimum(found.lengths, asked.count).tolist()
    for row, places in enumerate(chosen):
        start, end = found.row_splits[row : row + 2]
        assert len(np.unique(places)) == len(places)
        assert ((places >= start) & (places < end)).all()
        alone = stage.select(single(asked, row), found.take(np.array([row])))
        assert (alone.values + start).tolist() == places.tolist()


@each(EXPLAINERS)
@given(case=asked_with(ranked=True))
def test_an_explainer_explains_each_candidate_and_does_so_for_each_alone(
    stage: Explainer, case: tuple[Queries, Candidates]
) -> None:
    asked, found = case
    explained = twice(stage.explain, asked, found)
    assert [len(of_one) for of_one in explained] == found.lengths.tolist()
    for row, of_one in enumerate(explained):
        assert stage.explain(single(asked, row), found.take(np.array([row]))) == (of_one,)
        for explanation in of_one:
            strengths = [abs(term.contribution) for term in explanation.contributions]
            assert strengths == sorted(strengths, reverse=True)
            if explanation.anchor_index is not None:
                assert explanation.anchor_index in asked.histories[row].item_index
                assert explanation.sentence
