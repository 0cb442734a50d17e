"""A bundle's files become an engine that answers: real models, real stages, the executor, an online store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.assemble import (
    build_explainer,
    build_ranker,
    build_selector,
    build_sources,
    build_stages,
    compose,
)
from serving.config import RetrievalConfig, ServeConfig
from serving.engine import Engine
from serving.pipeline import RecommendationPipeline
from serving.types import Diversity, History, Recommendation
from tests.serving.doubles import history_of, indices, query_of
from tests.serving.fakes import PATIENT
from tests.serving.models import (
    COLD,
    N_ITEMS,
    N_USERS,
    SILENT,
    small,
    small_bundle,
    without,
    write_small,
)
from training.bundle import Bundle, BundleError, Component, read_bundle
from training.models.retrieval import SOURCES

WORLD, BUNDLE = small(), small_bundle()
CONFIG = ServeConfig(bundle="small", budgets=PATIENT)
ENGINE = compose(BUNDLE, build_stages(BUNDLE, CONFIG), WORLD.store(), CONFIG)
IDS = WORLD.data.events.user_ids
KNOWN = [user for user in range(N_USERS) if WORLD.seen(user)]


def asked(pipeline: RecommendationPipeline, **fields: Any) -> Recommendation:
    query = query_of(now=WORLD.now, deadline=time.monotonic() + 60, **fields)
    return asyncio.run(pipeline.run(query))


def items(answer: Recommendation) -> list[int]:
    return answer.batch.item_index.tolist()


def genres(item: int) -> list[str]:
    return BUNDLE.catalogue.table.column("genres")[item].as_py()


@settings(max_examples=60)
@given(
    user=st.sampled_from(KNOWN),
    count=st.integers(1, 60),
    exclude=st.lists(st.integers(0, N_ITEMS - 1), max_size=8),
    genre=st.none() | st.sampled_from([f"genre-{i}" for i in range(12)]),
    diversity=st.sampled_from([Diversity("none", 0.0), Diversity("mmr", 0.3), Diversity("mmr", 1.0)]),
)
def test_a_known_user_gets_all_there_is_and_nothing_seen_or_forbidden(
    user: int, count: int, exclude: list[int], genre: str | None, diversity: Diversity
) -> None:
    answer = asked(
        ENGINE.recommend,
        user_id=IDS[user],
        count=count,
        exclude=indices(exclude),
        filter=None if genre is None else {"genres": {"any": [genre]}},
        diversity=diversity,
        explain=True,
    )
    hidden = {*WORLD.seen(user), *exclude}
    allowed = {i for i in range(N_ITEMS) if i not in hidden and (genre is None or genre in genres(i))}
    assert answer.degraded == ()
    assert set(items(answer)) <= allowed
    assert len(items(answer)) == len(set(items(answer))) == min(count, len(allowed))
    assert answer.sources == SOURCES
    assert answer.tier == ("personalized" if allowed else "popular")
    assert len(answer.explanations) == len(items(answer))
    for explanation in answer.explanations:
        assert explanation.anchor_index is None or explanation.anchor_index in WORLD.seen(user)


def test_the_answer_is_the_models_own() -> None:
    """Retrieval, blend and ranker by hand give the same items with the same scores."""
    user = KNOWN[4]
    answer = asked(ENGINE.recommend, user_id=IDS[user], count=10)
    past = np.array(WORLD.seen(user), np.int32)
    row = asyncio.run(WORLD.store().read_users([IDS[user]]))
    assert answer.query.feature_age_s == pytest.approx(float(row.age_s(WORLD.now)[0]))
    known = answer.query.user_features
    allowed = np.ones(N_ITEMS, np.bool_)
    allowed[past] = False
    sizes = {name: getattr(CONFIG.retrieval, name) for name in SOURCES}
    found = WORLD.models.retrieval.retrieve(past, known, WORLD.now, allowed, sizes)
    candidates, _, bits = WORLD.blend.blend(found, CONFIG.retrieval.candidates)
    scores = WORLD.ranker.score(WORLD.features.compute(past, known, WORLD.now, candidates))
    best = np.argsort(-scores, kind="stable")[:10]
    assert items(answer) == candidates[best].tolist()
    assert answer.batch.score is not None
    np.testing.assert_allclose(answer.batch.score, scores[best], rtol=1e-5)
    assert answer.batch.source.tolist() == bits[best].tolist()


@pytest.mark.parametrize("user_id", ["nobody", SILENT])
def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(user_id: str) -> None:
    answer = asked(ENGINE.recommend, user_id=user_id, count=7, explain=True)
    assert (answer.tier, answer.degraded, answer.explanations) == ("popular", (), ())
    popularity = WORLD.models.statistics.at(WORLD.now).popularity_month
    assert items(answer) == np.argsort(-popularity, kind="stable")[:7].tolist()
    assert {answer.sources[bit] for bit in range(4) if answer.batch.source[0] >> bit & 1} == {"popular"}


def test_a_session_is_answered_from_its_own_events() -> None:
    session = history_of([2, 9, 4])
    answer = asked(ENGINE.recommend, user_id=None, session=True, history=session, count=N_ITEMS)
    assert (answer.tier, answer.degraded) == ("session", ())
    assert sorted(items(answer)) == [item for item in range(N_ITEMS) if item not in (2, 4, 9)]
    other = asked(ENGINE.recommend, user_id=None, session=True, history=history_of([30, 31]), count=5)
    assert items(other) != items(answer)[:5]


@pytest.mark.parametrize("item", [0, 7, COLD])
def test_similar_items_come_by_behaviour_first_and_are_never_the_item(item: int) -> None:
    answer = asked(ENGINE.similar, user_id=None, items=indices([item]), count=N_ITEMS)
    evident = WORLD.models.ease.weights[item] > 0
    behaviour = evident[answer.batch.item_index]
    assert answer.sources == ("behaviour", "content")
    assert sorted(items(answer)) == [i for i in range(N_ITEMS) if i != item]
    assert behaviour.tolist() == sorted(behaviour, reverse=True)
    assert (np.diff(answer.batch.retrieval_score) <= 0).all()
    assert evident.any() == (item != COLD)
    assert (answer.batch.source & 1 > 0).tolist() == behaviour.tolist()


def test_similar_items_respect_filter_and_exclusion() -> None:
    genre = genres(5)[0]
    wanted = [i for i in range(N_ITEMS) if genre in genres(i) and i != 5]
    answer = asked(
        ENGINE.similar,
        user_id=None,
        items=indices([5]),
        exclude=indices(wanted[:1]),
        filter={"genres": {"any": [genre]}},
        count=N_ITEMS,
    )
    assert len(wanted) > 1
    assert sorted(items(answer)) == wanted[1:]


def test_rank_orders_what_is_named_seen_or_not() -> None:
    user = KNOWN[0]
    named = [*WORLD.seen(user), 3, 17, COLD]
    named = list(dict.fromkeys(named))
    known = asked(ENGINE.rank, user_id=IDS[user], items=indices(named), count=len(named), explain=True)
    assert sorted(items(known)) == sorted(named)
    assert known.tier == "personalized"
    assert known.batch.score is not None
    assert (np.diff(known.batch.score) <= 0).all()
    assert len(known.explanations) == len(named)
    unknown = asked(ENGINE.rank, user_id="nobody", items=indices(named), count=len(named))
    popularity = WORLD.models.statistics.at(WORLD.now).popularity_month
    assert unknown.tier == "popular"
    assert items(unknown) == sorted(named, key=lambda item: -popularity[item])


def test_a_config_sets_the_sizes() -> None:
    few = CONFIG.model_copy(
        update={"retrieval": RetrievalConfig(two_tower=2, ease=2, sequential=2, popular=1, candidates=1)}
    )
    engine = compose(BUNDLE, build_stages(BUNDLE, few), WORLD.store(), few)
    answer = asked(engine.recommend, user_id=IDS[KNOWN[0]], count=5)
    assert 0 < len(items(answer)) <= 2 + 2 + 2 + 5  # popular brings what the answer needs


def test_sources_choose_among_what_may_be_shown() -> None:
    """Few are asked for, and the best are hidden: the next best fill the answer."""
    few = CONFIG.model_copy(
        update={"retrieval": RetrievalConfig(two_tower=1, ease=1, sequential=1, popular=1, similar=1)}
    )
    engine = compose(BUNDLE, build_stages(BUNDLE, few), WORLD.store(), few)
    best = items(asked(engine.recommend, user_id="nobody", count=10))
    after = items(asked(engine.recommend, user_id="nobody", count=10, exclude=indices(best)))
    assert len(best) == len(after) == 10
    assert not set(best) & set(after)
    similar = items(asked(engine.similar, user_id=None, items=indices([0]), count=10))
    rest = items(asked(engine.similar, user_id=None, items=indices([0]), count=10, exclude=indices(similar)))
    assert len(similar) == len(rest) == 10
    assert not set(similar) & set(rest)


BUILDERS: dict[str, Callable[[Bundle, ServeConfig], Any]] = {
    "sources": build_sources,
    "ranker": build_ranker,
    "selector": build_selector,
    "explainer": build_explainer,
}
NEEDS = {
    "sources": {"two_tower", "ease", "sequential", "statistics"},
    "ranker": {"two_tower", "ease", "sequential", "statistics", "ranker"},
    "selector": {"two_tower"},
    "explainer": {"two_tower", "ease", "sequential", "statistics", "ranker"},
}


@pytest.mark.parametrize("stage", BUILDERS)
@pytest.mark.parametrize("component", sorted(WORLD.components()))
def test_a_stage_is_built_from_the_components_it_needs_and_no_other(stage: str, component: str) -> None:
    bundle = without(BUNDLE, component)
    if component not in NEEDS[stage]:
        assert BUILDERS[stage](bundle, CONFIG) is not None
        return
    with pytest.raises(BundleError, match=rf"holds no component '{component}'.*train again"):
        BUILDERS[stage](bundle, CONFIG)


@pytest.mark.parametrize("component", sorted(WORLD.components()))
def test_an_engine_needs_every_component(component: str) -> None:
    def engine(bundle: Bundle) -> Engine:
        return compose(bundle, build_stages(bundle, CONFIG), WORLD.store(), CONFIG)

    assert engine(BUNDLE).version == BUNDLE.manifest.version
    with pytest.raises(BundleError, match=rf"holds no component '{component}'"):
        engine(without(BUNDLE, component))


def test_a_ranker_of_other_features_is_refused() -> None:
    component = BUNDLE.component("ranker")
    names = ["two_tower", "charm", *component.settings["names"][2:]]
    altered = Component({**component.settings, "names": names}, component.arrays)
    bundle = replace(BUNDLE, components={**BUNDLE.components, "ranker": altered})
    with pytest.raises(BundleError, match="train again"):
        build_ranker(bundle, CONFIG)


def test_an_answer_is_the_same_from_the_files_as_from_the_models(tmp_path: Path) -> None:
    bundle = read_bundle(str(write_small(tmp_path)), fingerprint=WORLD.schema.fingerprint())
    assert bundle.manifest.version == BUNDLE.manifest.version
    engine = compose(bundle, build_stages(bundle, CONFIG), WORLD.store(), CONFIG)
    ours, theirs = (asked(e.recommend, user_id=IDS[KNOWN[1]], explain=True) for e in (engine, ENGINE))
    assert items(ours) == items(theirs)
    assert ours.explanations == theirs.explanations


def test_explanations_add_up_to_the_score_that_is_shown() -> None:
    every = CONFIG.model_copy(update={"explain": CONFIG.explain.model_copy(update={"contributions": 9})})
    engine = compose(BUNDLE, build_stages(BUNDLE, every), WORLD.store(), every)
    answer = asked(engine.recommend, user_id=IDS[KNOWN[2]], explain=True)
    assert answer.batch.score is not None
    for score, explanation in zip(answer.batch.score.tolist(), answer.explanations, strict=True):
        total = sum(term.contribution for term in explanation.contributions) + WORLD.ranker.bias
        assert total == pytest.approx(score, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("speaking", "sentences"),
    [
        (
            "ease",
            [
                "People who chose Item 7, which you rated highly, also chose Item 20.",
                "People who chose Item 7, as you did, also chose Item 20.",
            ],
        ),
        (
            "sequential",
            [
                "After Item 7, which you rated highly, people often go on to Item 20.",
                "After Item 7, which you chose, people often go on to Item 20.",
            ],
        ),
    ],
)
def test_a_sentence_names_titles_of_the_catalogue(speaking: str, sentences: list[str]) -> None:
    """One case in words: of the two events only item 7 speaks for item 20, in one of the two models."""
    silent = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    weights = silent.copy()
    weights[7, 20] = 1.0
    linear = {
        name: Component(
            {"half_life": 3.0, "history": 30}, {"weights": weights if name == speaking else silent}
        )
        for name in ("ease", "sequential")
    }
    bundle = replace(BUNDLE, components={**BUNDLE.components, **linear})
    engine = compose(bundle, build_stages(bundle, CONFIG), WORLD.store(), CONFIG)
    told = []
    for value in (5.0, 3.0):
        past = History(indices([7, 11]), np.array([value, 3.0], np.float32), np.array([1.0, 2.0]))
        answer = asked(
            engine.rank, user_id=None, session=True, history=past, items=indices([20]), count=1, explain=True
        )
        (explanation,) = answer.explanations
        assert explanation.anchor_index == 7
        told.append(explanation.sentence)
    assert told == sentences
