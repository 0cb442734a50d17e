"""A bundle's files become an engine that answers: real models, real stages, the executor, an online store."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.build import STAGES, Placement, compose
from serving.config import CacheConfig, ServeConfig
from serving.engine import Engine
from serving.pipeline import Pipeline
from serving.types import Diversity, History, Query, Recommendation
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
from training.models.ragged import Ragged
from training.models.ranking_features import ranking_features
from training.models.retrieval import SOURCES, Eligible, retrieve
from training.models.scores import Scores
from training.recipe import default

WORLD, BUNDLE = small(), small_bundle()
CONFIG = ServeConfig(bundle="small", budgets=PATIENT)
ENGINE = compose(BUNDLE, WORLD.store(), CONFIG)
UNCACHED = compose(BUNDLE, WORLD.store(), CONFIG.model_copy(update={"cache": CacheConfig(items=0)}))
IDS = WORLD.data.events.user_ids
KNOWN = [user for user in range(N_USERS) if WORLD.seen(user)]


def asked(pipeline: Pipeline, **fields: Any) -> Recommendation:
    query = query_of(now=WORLD.now, deadline=time.monotonic() + 60, **fields)
    return asyncio.run(pipeline.run(query))


def items(answer: Recommendation) -> list[int]:
    return list(map(int, answer.shown.item_index))


def genres(item: int) -> list[str]:
    found: list[str] = BUNDLE.catalogue.table.column("genres")[item].as_py()
    return found


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
    row = asyncio.run(WORLD.store().read_users([IDS[user]]))
    assert answer.query.feature_age_s == pytest.approx(float(row.age_s(WORLD.now)[0]))
    assert answer.query.user_features is not None
    past, now = Ragged.of([np.array(WORLD.seen(user), np.int32)], np.int32), np.array([WORLD.now])
    scores = Scores(WORLD.models, past, answer.query.user_features[None])
    eligible = Eligible.all_but(past, np.ones(N_ITEMS, np.bool_))
    sizes = default().sizes
    found = retrieve(scores, WORLD.models.statistics, now, eligible, sizes)
    candidates, _, bits = WORLD.blend.blend(found, default().candidates)
    score = WORLD.ranker.score(ranking_features(scores, WORLD.models.statistics, now, candidates))
    best = np.argsort(-score, kind="stable")[:10]
    assert items(answer) == candidates.values[best].tolist()
    assert answer.shown.score is not None
    np.testing.assert_allclose(answer.shown.score, score[best], rtol=1e-5)
    assert answer.shown.source.tolist() == bits[best].tolist()


requests = st.builds(
    lambda user_id, count, exclude, genre, strength, explain, seen, days, past: query_of(
        user_id=None if past else user_id,
        session=bool(past),
        history=history_of(past),
        count=count,
        exclude=indices(exclude),
        filter=None if genre is None else {"genres": {"any": [genre]}},
        diversity=Diversity("mmr", strength),
        explain=explain,
        seen=seen,
        now=WORLD.now - 86_400 * days,
        items=indices([*exclude, 1, COLD]),
        deadline=np.inf,
    ),
    user_id=st.sampled_from([*(IDS[user] for user in KNOWN[:6]), "nobody", SILENT]),
    count=st.integers(1, 12),
    exclude=st.lists(st.integers(0, N_ITEMS - 1), max_size=8, unique=True),
    genre=st.none() | st.sampled_from(["genre-1", "genre-2", "no such genre"]),
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    explain=st.booleans(),
    seen=st.sampled_from(["exclude", "allow"]),
    days=st.sampled_from([0, 0, 40]),
    past=st.just([]) | st.lists(st.integers(0, N_ITEMS - 1), max_size=6),
)


@settings(max_examples=60)
@given(st.lists(requests, min_size=2, max_size=6), st.sampled_from(["recommend", "similar", "rank"]))
def test_the_whole_pipeline_a_batch_equals_its_singles(several: list[Query], name: str) -> None:
    """Known users, unknown ones and sessions, filters that leave nothing, moments of different days: what is
    answered to one has nothing to do with the others of its batch."""
    pipeline = replace(UNCACHED.pipeline(name), cache=None)

    async def at_once() -> list[Recommendation]:
        return await asyncio.gather(*map(pipeline.run, several))

    for query, ours in zip(several, asyncio.run(at_once()), strict=True):
        alone = asyncio.run(pipeline.run(query))
        assert (ours.tier, ours.degraded, ours.sources) == (alone.tier, (), alone.sources)
        assert items(ours) == items(alone)
        assert ours.shown.source.tolist() == alone.shown.source.tolist()
        np.testing.assert_allclose(
            ours.shown.retrieval_score, alone.shown.retrieval_score, rtol=1e-4, atol=1e-4
        )
        if items(ours):
            assert (ours.shown.score is None) == (alone.shown.score is None)
        if ours.shown.score is not None and alone.shown.score is not None:
            np.testing.assert_allclose(ours.shown.score, alone.shown.score, rtol=1e-3, atol=1e-3)
        assert [(e.sentence, e.anchor_index) for e in ours.explanations] == [
            (e.sentence, e.anchor_index) for e in alone.explanations
        ]
        assert set(ours.timings_ms) == set(alone.timings_ms)


@pytest.mark.parametrize("user_id", ["nobody", SILENT])
def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(user_id: str) -> None:
    answer = asked(ENGINE.recommend, user_id=user_id, count=7, explain=True)
    assert (answer.tier, answer.degraded, answer.explanations) == ("popular", (), ())
    popularity = WORLD.models.statistics.at(WORLD.now).popularity_month
    assert items(answer) == np.argsort(-popularity, kind="stable")[:7].tolist()
    assert {answer.sources[bit] for bit in range(4) if answer.shown.source[0] >> bit & 1} == {"popular"}


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
    evident = WORLD.models.linear["ease"].weights[item] > 0
    behaviour = evident[answer.shown.item_index]
    assert answer.sources == ("behaviour", "content")
    assert sorted(items(answer)) == [i for i in range(N_ITEMS) if i != item]
    assert behaviour.tolist() == sorted(behaviour, reverse=True)
    assert (np.diff(answer.shown.retrieval_score) <= 0).all()
    assert evident.any() == (item != COLD)
    assert (answer.shown.source & 1 > 0).tolist() == behaviour.tolist()


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
    assert known.shown.score is not None
    assert (np.diff(known.shown.score) <= 0).all()
    assert len(known.explanations) == len(named)
    unknown = asked(ENGINE.rank, user_id="nobody", items=indices(named), count=len(named))
    popularity = WORLD.models.statistics.at(WORLD.now).popularity_month
    assert unknown.tier == "popular"
    assert items(unknown) == sorted(named, key=lambda item: -popularity[item])


def limited(**limits: int) -> Bundle:
    """The bundle with other limits of its stages."""
    pipelines = {
        name: pipeline.model_copy(
            update={
                "stages": tuple(
                    stage.model_copy(update={"options": {**stage.options, "limit": limits[stage.name]}})
                    if stage.name in limits
                    else stage
                    for stage in pipeline.stages
                )
            }
        )
        for name, pipeline in BUNDLE.declaration.pipelines.items()
    }
    return replace(BUNDLE, declaration=BUNDLE.declaration.model_copy(update={"pipelines": pipelines}))


def test_a_bundle_declares_the_sizes() -> None:
    few = limited(two_tower=2, ease=2, sequential=2, popular=1, calibrated=1)
    engine = compose(few, WORLD.store(), CONFIG)
    answer = asked(engine.recommend, user_id=IDS[KNOWN[0]], count=5)
    assert 0 < len(items(answer)) <= 2 + 2 + 2 + 5  # popular brings what the answer needs


def test_sources_choose_among_what_may_be_shown() -> None:
    """Few are asked for, and the best are hidden: the next best fill the answer."""
    few = limited(two_tower=1, ease=1, sequential=1, popular=1, behaviour=1, content=1)
    engine = compose(few, WORLD.store(), CONFIG)
    best = items(asked(engine.recommend, user_id="nobody", count=10))
    after = items(asked(engine.recommend, user_id="nobody", count=10, exclude=indices(best)))
    assert len(best) == len(after) == 10
    assert not set(best) & set(after)
    similar = items(asked(engine.similar, user_id=None, items=indices([0]), count=10))
    rest = items(asked(engine.similar, user_id=None, items=indices([0]), count=10, exclude=indices(similar)))
    assert len(similar) == len(rest) == 10
    assert not set(similar) & set(rest)


NEEDS = {
    "retrieval": {"two_tower", "ease", "sequential", "statistics", "blend"},
    "ranking": {"two_tower", "ease", "sequential", "statistics", "ranker"},
    "diversity": {"two_tower"},
    "explain": {"two_tower", "ease", "sequential", "statistics", "ranker"},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("component", sorted(WORLD.components()))
def test_a_stage_is_built_from_the_components_it_needs_and_no_other(stage: str, component: str) -> None:
    bundle, here = without(BUNDLE, component), Placement(stages=(stage,))
    if component not in NEEDS[stage]:
        assert compose(bundle, None, CONFIG, placement=here).version == BUNDLE.manifest.version
        return
    with pytest.raises(BundleError, match=rf"holds no component '{component}'.*train again"):
        compose(bundle, None, CONFIG, placement=here)


def test_where_no_stage_runs_no_component_is_read() -> None:
    engine = compose(replace(BUNDLE, components={}), None, CONFIG, placement=Placement(stages=()))
    assert [source.name for source in engine.recommend.sources] == list(SOURCES)
    assert [source.personal for source in engine.recommend.sources] == [True, True, True, False]


@pytest.mark.parametrize("component", sorted(WORLD.components()))
def test_an_engine_needs_every_component(component: str) -> None:
    def engine(bundle: Bundle) -> Engine:
        return compose(bundle, WORLD.store(), CONFIG)

    assert engine(BUNDLE).version == BUNDLE.manifest.version
    with pytest.raises(BundleError, match=rf"holds no component '{component}'"):
        engine(without(BUNDLE, component))


def test_a_ranker_of_other_features_is_refused() -> None:
    component = BUNDLE.component("ranker")
    names = ["two_tower", "charm", *component.settings["names"][2:]]
    altered = Component({**component.settings, "names": names}, component.arrays)
    bundle = replace(BUNDLE, components={**BUNDLE.components, "ranker": altered})
    with pytest.raises(BundleError, match="train again"):
        compose(bundle, WORLD.store(), CONFIG)


def test_an_answer_is_the_same_from_the_files_as_from_the_models(tmp_path: Path) -> None:
    bundle = read_bundle(str(write_small(tmp_path)), fingerprint=WORLD.schema.fingerprint())
    assert bundle.manifest.version == BUNDLE.manifest.version
    engine = compose(bundle, WORLD.store(), CONFIG)
    ours, theirs = (asked(e.recommend, user_id=IDS[KNOWN[1]], explain=True) for e in (engine, ENGINE))
    assert items(ours) == items(theirs)
    assert ours.explanations == theirs.explanations


def test_explanations_add_up_to_the_score_that_is_shown() -> None:
    every = changed("ranker_terms", options={"contributions": 9})
    engine = compose(every, WORLD.store(), CONFIG)
    answer = asked(engine.recommend, user_id=IDS[KNOWN[2]], explain=True)
    assert answer.shown.score is not None
    for score, explanation in zip(answer.shown.score.tolist(), answer.explanations, strict=True):
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
    engine = compose(bundle, WORLD.store(), CONFIG)
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


def changed(stage: str, **fields: Any) -> Bundle:
    """The bundle with another stage of this name in `recommend`."""
    pipeline = BUNDLE.declaration.pipelines["recommend"]
    stages = tuple(each.model_copy(update=fields) if each.name == stage else each for each in pipeline.stages)
    pipelines = {
        **BUNDLE.declaration.pipelines,
        "recommend": pipeline.model_copy(update={"stages": stages}),
    }
    return replace(BUNDLE, declaration=BUNDLE.declaration.model_copy(update={"pipelines": pipelines}))


@pytest.mark.parametrize(
    ("stage", "fields", "named"),
    [
        ("ease", {"kind": "quantum"}, "no package here has the kind 'quantum'"),
        ("ease", {"options": {"by": "ease"}}, "stage 'ease': option limit: Field required"),
        ("ease", {"options": {"by": "ease", "limit": 5, "depth": 3}}, "option depth: Extra inputs"),
        ("popular", {"models": {}}, "stage 'popular' of kind popular names no model 'statistics'"),
        ("popular", {"models": {"statistics": "ease"}}, "kind popular: model 'ease' has no at, "),
        ("mmr", {"models": {"vectors": "blend"}}, "kind mmr: model 'blend' has no item_vectors;"),
        ("ranker", {"requires": ("age", "horoscope")}, "requires horoscope, which no stage before"),
        ("ranker", {"requires": ("age",)}, "reads ease, ease_long"),
    ],
)
def test_what_is_missing_is_named_when_a_bundle_is_read(
    stage: str, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(BundleError, match=re.escape(named)) as refused:
        compose(changed(stage, **fields), None, CONFIG)
    assert "\n" not in str(refused.value)


def test_a_bundle_without_a_pipeline_that_http_asks_for_is_refused() -> None:
    pipelines = {name: each for name, each in BUNDLE.declaration.pipelines.items() if name != "similar"}
    lacking = BUNDLE.declaration.model_copy(update={"pipelines": pipelines})
    with pytest.raises(BundleError, match="declares no pipeline similar; train again"):
        compose(replace(BUNDLE, declaration=lacking), None, CONFIG)
