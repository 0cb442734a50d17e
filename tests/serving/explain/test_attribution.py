"""Reasons are the score, and sentences are true: over any curves a ranker may have learned."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batch import Candidates, Queries
from serving.columns import RankingHydrator, rows_of
from serving.explain.attribution import RankerExplainer
from serving.explain.reasons import PLAIN
from serving.types import Explanation, Float32, History, Query
from tests.serving.doubles import batch_of, queries_of, query_of
from tests.serving.models import N_ITEMS, curves, ranking_rows, small
from training.feedback import Feedback
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import NAMES

WORLD = small()
ROWS = ranking_rows(WORLD.models, WORLD.data)
MODELS = {"together": WORLD.models.linear["ease"], "next": WORLD.models.linear["sequential"]}
HYDRATOR = RankingHydrator(WORLD.models)
COLUMN = {"together": NAMES.index("ease"), "next": NAMES.index("sequential")}
TITLES = tuple(f"<{item}>" for item in range(N_ITEMS))

FORMS = {
    ("together", False): re.compile(r"People who chose <(\d+)>, as you did, also chose <(\d+)>\."),
    ("together", True): re.compile(r"People who chose <(\d+)>, which you rated highly, also chose <(\d+)>\."),
    ("next", False): re.compile(r"After <(\d+)>, which you chose, people often go on to <(\d+)>\."),
    ("next", True): re.compile(r"After <(\d+)>, which you rated highly, people often go on to <(\d+)>\."),
}


@dataclass(frozen=True)
class Case:
    query: Query
    items: list[int]
    ranker: AdditiveRanker
    terms: int

    @property
    def asked(self) -> Queries:
        return queries_of(self.query, user_width=WORLD.schema.user_width)

    @property
    def rows(self) -> Float32:
        return rows_of(HYDRATOR.hydrate(self.asked, batch_of(self.items)), NAMES)

    def explained(self, hydrated: bool = True) -> tuple[Explanation, ...]:
        explainer = RankerExplainer(HYDRATOR, self.ranker, MODELS, TITLES, self.terms, Feedback())
        found = batch_of(self.items).with_score(self.ranker.score(self.rows))
        return explained(explainer, self.asked, with_rows(found, self.rows) if hydrated else found)


def with_rows(found: Candidates, rows: Float32) -> Candidates:
    return found.with_columns(dict(zip(NAMES, rows.T, strict=True)))


def explained(explainer: RankerExplainer, asked: Queries, found: Candidates) -> tuple[Explanation, ...]:
    (of_one,) = explainer.explain(asked, found)
    return of_one


def history(items: Sequence[int], values: Sequence[float]) -> History:
    times = WORLD.now - 1000.0 + np.arange(len(items), dtype=np.float64)
    return History(np.array(items, np.int32), np.array(values, np.float32), times)


steps = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0]), min_size=2, max_size=5)
rankers = st.lists(steps, min_size=len(NAMES), max_size=len(NAMES)).map(lambda t: curves(ROWS, t))
events = st.lists(
    st.tuples(st.integers(0, N_ITEMS - 1), st.sampled_from([1.0, 3.0, 3.5, 5.0])), min_size=1, max_size=25
)
cases = st.builds(
    lambda events, items, ranker, terms, known: Case(
        query_of(
            history=history(*zip(*events, strict=True)),
            now=WORLD.now,
            user_features=WORLD.data.user_features[-1] if known else None,
        ),
        items,
        ranker,
        terms,
    ),
    events,
    st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=8, unique=True),
    rankers | st.just(WORLD.ranker),
    st.integers(1, len(NAMES)),
    st.booleans(),
)


@given(cases)
def test_contributions_are_the_strongest_and_add_up_to_the_score(case: Case) -> None:
    scores, terms = case.ranker.score(case.rows), case.ranker.contributions(case.rows)
    for row, explanation in enumerate(case.explained()):
        shown = [abs(term.contribution) for term in explanation.contributions]
        assert shown == sorted(np.abs(terms[row]).tolist(), reverse=True)[: case.terms]
        for term in explanation.contributions:
            at = NAMES.index(term.feature)
            assert (term.value, term.contribution) == (float(case.rows[row, at]), float(terms[row, at]))
    for score, explanation in zip(scores, replace(case, terms=len(NAMES)).explained(), strict=True):
        assert len({term.feature for term in explanation.contributions}) == len(NAMES)
        total = math.fsum(term.contribution for term in explanation.contributions) + case.ranker.bias
        assert total == pytest.approx(float(score), rel=1e-5, abs=1e-5)  # sums of nine float32


def spoken(sentence: str) -> tuple[str, bool, int, int] | None:
    """Family, whether it says "rated highly", anchor and item of an anchored sentence."""
    for (family, rated), form in FORMS.items():
        match = form.fullmatch(sentence)
        if match:
            return family, rated, int(match[1]), int(match[2])
    return None


@settings(max_examples=200)
@given(cases)
def test_a_sentence_says_only_what_is_true_and_what_the_score_carries(case: Case) -> None:
    terms = case.ranker.contributions(case.rows)
    past = case.query.history
    for row, (item, explanation) in enumerate(zip(case.items, case.explained(), strict=True)):
        if explanation.sentence is None:
            assert explanation.anchor_index is None
            continue
        told = spoken(explanation.sentence)
        if told is None:
            assert explanation.anchor_index is None
            assert_plain(explanation.sentence, case, row)
            continue
        family, rated, anchor, named = told
        assert (named, anchor) == (item, explanation.anchor_index)
        assert anchor != item
        in_model = MODELS[family].contributions(past.item_index, np.array([item], np.int32))[0]
        in_model[past.item_index == item] = 0
        where = int(in_model.argmax())
        assert past.item_index[where] == anchor
        assert in_model[where] > 0
        values = past.value.tolist()
        high = len(set(values)) > 1 and values[where] >= math.fsum(values) / len(values)
        assert rated is high
        # Without the event's term the item would score less.
        less = case.rows[row : row + 1].copy()
        less[0, COLUMN[family]] -= in_model[where]
        column = COLUMN[family]
        assert case.ranker.contributions(less)[0, column] < terms[row, column]


PLAIN_COLUMNS = {
    "taste": ("two_tower",),
    "popular": ("popularity_week", "popularity_all"),
    "valued": ("mean_value",),
    "new": ("age",),
}


def assert_plain(sentence: str, case: Case, row: int) -> None:
    family = next(family for family, plain in PLAIN.items() if plain == sentence)
    columns = [NAMES.index(name) for name in PLAIN_COLUMNS[family]]
    terms = case.ranker.contributions(case.rows)[row]
    assert sum(terms[column] for column in columns) > 0
    assert any(terms[column] > 0 and outstanding(case, row, column, family == "new") for column in columns)


def outstanding(case: Case, row: int, column: int, low: bool) -> bool:
    value, knots = float(case.rows[row, column]), case.ranker.knots[column]
    return bool(value < np.quantile(knots, 1 / 3) if low else value > np.quantile(knots, 2 / 3))


@given(cases)
def test_a_ranker_elsewhere_gets_the_same_explanations(case: Case) -> None:
    assert case.explained(hydrated=False) == case.explained(hydrated=True)


def only(**tables: Sequence[float]) -> AdditiveRanker:
    """A ranker that reads these features and no other."""
    return curves(ROWS, [list(tables.get(name, [0.0, 0.0])) for name in NAMES])


def explain(ranker: AdditiveRanker, past: History, items: Sequence[int]) -> tuple[Explanation, ...]:
    return Case(query_of(history=past, now=WORLD.now), list(items), ranker, 3).explained()


PAST = history([0, 5, 7, 11], [1, 5, 3, 4])
ASKED = queries_of(query_of(history=PAST, now=WORLD.now), user_width=WORLD.schema.user_width)
REST = [item for item in range(N_ITEMS) if item not in (0, 5, 7, 11)]


def test_nothing_is_said_where_nothing_raises_the_score() -> None:
    flat, lowering = only(), only(**{name: [-1.0, -1.0] for name in NAMES})
    for ranker in (flat, lowering):
        assert {e.sentence for e in explain(ranker, PAST, REST)} == {None}


@pytest.mark.parametrize("feature", ["two_tower", "popularity_week", "popularity_all", "mean_value", "age"])
def test_a_plain_sentence_needs_the_value_that_it_speaks_of(feature: str) -> None:
    """A ranker that prefers the opposite has no sentence for it: unpopular is not "many people"."""
    rising, falling = only(**{feature: [-1, 0, 1]}), only(**{feature: [1, 0, -1]})
    true, false = (falling, rising) if feature == "age" else (rising, falling)
    said = {e.sentence for e in explain(true, PAST, REST)}
    assert len(said) == 2  # those it is true of, and None for the others
    assert None in said
    assert {e.sentence for e in explain(false, PAST, REST)} == {None}


@pytest.mark.parametrize("feature", ["ease", "sequential"])
def test_a_ranker_that_punishes_what_goes_together_names_no_anchor(feature: str) -> None:
    assert any(e.anchor_index is not None for e in explain(only(**{feature: [-1, 0, 1]}), PAST, REST))
    assert all(e.anchor_index is None for e in explain(only(**{feature: [1, 0, -1]}), PAST, REST))


def test_idleness_is_shown_and_never_said() -> None:
    explained = explain(only(idle=[1.0, 0.0]), PAST, REST)
    assert {e.sentence for e in explained} == {None}
    assert {e.contributions[0].feature for e in explained} >= {"idle"}


def test_where_the_strongest_family_has_no_anchor_the_next_one_is_asked() -> None:
    weights = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    weights[7, 20] = 1.0
    anchors = {"together": LinearItemModel(weights, 3.0, 30), "next": LinearItemModel(weights, 3.0, 30)}
    none = replace(anchors["together"], weights=np.zeros_like(weights))
    ranker = only(ease=[3.0, 3.0], sequential=[0.5, 2.0])
    rows = np.zeros((1, len(NAMES)), np.float32)
    rows[0, COLUMN["next"]] = ranker.knots[COLUMN["next"]][-1]
    explainer = RankerExplainer(HYDRATOR, ranker, {**anchors, "together": none}, TITLES, 3, Feedback())
    (explanation,) = explained(explainer, ASKED, with_rows(batch_of([20]), rows))
    assert explanation.sentence == "After <7>, which you chose, people often go on to <20>."


def test_an_item_is_never_the_reason_for_itself() -> None:
    """What a request asks to rank may have been chosen before, and may well be chosen again."""
    weights = np.eye(N_ITEMS, dtype=np.float32)
    ranker = only(sequential=[-1.0, 1.0])
    rows = np.zeros((1, len(NAMES)), np.float32)
    rows[0, COLUMN["next"]] = ranker.knots[COLUMN["next"]][-1]
    explainer = RankerExplainer(
        HYDRATOR, ranker, {"next": LinearItemModel(weights, 3.0, 30)}, TITLES, 3, Feedback()
    )
    (explanation,) = explained(explainer, ASKED, with_rows(batch_of([7]), rows))
    assert (explanation.sentence, explanation.anchor_index) == (None, None)


def test_users_without_a_history_are_not_explained() -> None:
    assert RankerExplainer.takes(queries_of(query_of(history=PAST), query_of())).tolist() == [True, False]
