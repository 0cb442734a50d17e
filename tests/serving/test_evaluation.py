"""The served pipeline, judged offline: it must not be told what it is asked, and must be whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from serving.batch import Candidates, Queries
from serving.engine import Engine
from serving.evaluation import DegradedEvaluation, ServedPipeline
from serving.types import Float32, Mask
from tests.serving.models import N_ITEMS, small, small_bundle
from training.cases import Cases
from training.dataset import build
from training.evaluate import Retriever, evaluate
from training.feedback import Feedback, Seen
from training.models.ragged import Ragged
from training.offline import OfflineRecommender
from training.recipe import default

WORLD = small()
CASES = Cases.each(WORLD.data, WORLD.data.test)


@pytest.fixture(scope="module")
def served() -> ServedPipeline:
    return ServedPipeline(small_bundle(), WORLD.tables)


@pytest.mark.parametrize("positions", [WORLD.data.test, WORLD.data.validation])
def test_it_answers_as_the_offline_path_does(served: ServedPipeline, positions: np.ndarray) -> None:
    """The same models without serving, fed with the histories and features that training made."""
    cases = Cases.each(WORLD.data, positions)
    offline = OfflineRecommender(WORLD.models, WORLD.blend, WORLD.ranker, default())
    assert served.recommend(cases, 10).tolist() == offline.recommend(cases, 10).tolist()
    assert served.retrieve(cases, 20).tolist() == offline.retrieve(cases, 20).tolist()


@pytest.mark.parametrize("disliked", [None, 2.0])
@pytest.mark.parametrize("seen", ["exclude", "allow"])
def test_it_answers_as_the_offline_path_does_whatever_events_mean(seen: Seen, disliked: float | None) -> None:
    """Of events with repeats and dislikes: the same cases, and the same answers."""
    feedback, rng = Feedback(seen, disliked), np.random.default_rng(8)
    table = WORLD.tables.interactions
    again = table.take(rng.integers(0, table.num_rows, 150))
    later = pc.add(again["timestamp"], pa.array(rng.integers(1, 9, 150) * 86_400))
    value = pa.array(rng.integers(1, 6, 150), pa.float32())
    again = again.set_column(2, "value", value).set_column(3, "timestamp", later)
    tables = replace(WORLD.tables, interactions=pa.concat_tables([table, again]).unify_dictionaries())
    data = build(tables, WORLD.schema, feedback)
    bundle = replace(small_bundle(), manifest=replace(small_bundle().manifest, feedback=feedback))
    cases = Cases.of(data, data.test)
    assert len(cases) + cases.left_out == len(data.test)
    assert bool(cases.left_out) == (seen == "exclude" or disliked is not None)
    served = ServedPipeline(bundle, tables)
    offline = OfflineRecommender(WORLD.models, WORLD.blend, WORLD.ranker, default())
    answers = served.recommend(cases, 10)
    assert answers.tolist() == offline.recommend(cases, 10).tolist()
    assert served.retrieve(cases, 20).tolist() == offline.retrieve(cases, 20).tolist()
    met = [bool({*answer} & {*history}) for answer, history in zip(answers, cases.histories(), strict=True)]
    assert any(met) == (seen == "allow")


@pytest.mark.parametrize("positions", [WORLD.data.test, WORLD.data.validation])
def test_the_store_holds_what_was_known_just_before(served: ServedPipeline, positions: np.ndarray) -> None:
    cases = Cases.each(WORLD.data, positions)
    rows = asyncio.run(served._store(cases).read_users(cases.user_ids))
    ids = WORLD.data.events.item_ids
    for case, history in enumerate(cases.histories()):
        assert rows.columns["history_items"][case].tolist() == [ids[item] for item in history.tolist()]
        assert rows.columns["user_events"][case] == len(history)
    assert (rows.written_at <= cases.now).all()


def test_the_earliest_of_a_users_held_out_events_decides(served: ServedPipeline) -> None:
    user = max(range(30), key=lambda u: len(WORLD.seen(u)))
    start = int(WORLD.data.events.offsets[user])
    cases = Cases.each(WORLD.data, np.array([start + 5, start + 3]))
    rows = asyncio.run(served._store(cases).read_users([WORLD.data.events.user_ids[user]]))
    assert rows.columns["user_events"].tolist() == [3]


def test_a_held_out_item_can_be_found_for_it_was_not_seen(served: ServedPipeline) -> None:
    """Had the store held the event, the item would be filtered out as seen, and never be returned."""
    answers = served.recommend(CASES, N_ITEMS)
    for target, answer, history in zip(
        CASES.relevant.values.tolist(), answers, CASES.histories(), strict=True
    ):
        shown = answer[answer >= 0].tolist()
        unseen = set(range(N_ITEMS)) - set(history.tolist())
        assert target in unseen  # the world has nothing twice
        assert set(shown) == unseen
        assert (answer[len(shown) :] == -1).all()


def test_a_future_that_gives_the_answer_away_changes_nothing(served: ServedPipeline) -> None:
    """The histories after the held-out events are rewritten in both tables and events: the same answers."""
    events, positions = WORLD.data.events, WORLD.data.test - 2
    positions = positions[positions >= events.offsets[events.user_index[positions + 2]]]
    cases = Cases.each(WORLD.data, positions)
    expected = served.recommend(cases, 10)
    after = np.zeros(len(events), np.bool_)
    for position in positions.tolist():
        after[position + 1 : events.offsets[events.user_index[position] + 1]] = True
    kept = np.sort(events.row[~after])
    cut = replace(WORLD.tables, interactions=WORLD.tables.interactions.take(kept))
    moved = np.cumsum(~after) - 1  # where each event stands once the future is gone
    rows = np.searchsorted(kept, events.row[~after])
    less = replace(events.select(events.row[~after]), row=rows)
    known = Cases.each(
        replace(WORLD.data, events=less, every=less, at=np.arange(len(less))), moved[positions]
    )
    assert after.sum() > 10
    assert ServedPipeline(small_bundle(), cut).recommend(known, 10).tolist() == expected.tolist()


def test_a_first_event_is_answered_by_popularity(served: ServedPipeline) -> None:
    start = int(WORLD.data.events.offsets[0])
    (answer,) = served.recommend(Cases.each(WORLD.data, np.array([start])), 5)
    popularity = WORLD.models.statistics.at(float(WORLD.data.events.timestamp[start])).popularity_month
    assert answer.tolist() == np.argsort(-popularity, kind="stable")[:5].tolist()


class Broken:
    name, personal = "broken", True

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def retrieve(self, queries: Queries) -> Candidates:
        raise ConnectionError("injected")

    def score(self, queries: Queries, candidates: Candidates) -> Float32:
        raise ConnectionError("injected")

    def select(self, queries: Queries, candidates: Candidates) -> Ragged[np.int64]:
        raise ConnectionError("injected")


@pytest.mark.parametrize(
    ("stage", "lost"), [("source", "source:broken"), ("scorer", "ranker"), ("selector", "diversity")]
)
def test_a_lost_stage_is_no_result(stage: str, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served = ServedPipeline(small_bundle(), WORLD.tables)
    whole = served._engine

    def with_broken(cases: Cases) -> Engine:
        engine = whole(cases)
        sources = (Broken(), *engine.recommend.sources[1:])
        broken: dict[str, Any] = {"sources": sources} if stage == "source" else {stage: Broken()}
        return engine.with_pipeline("recommend", replace(engine.recommend, **broken))

    monkeypatch.setattr(served, "_engine", with_broken)
    with pytest.raises(DegradedEvaluation, match=rf"lost {lost}"):
        served.recommend(CASES, 5)


def test_it_stands_in_the_table_of_recommenders(served: ServedPipeline) -> None:
    assert isinstance(served, Retriever)
    (row,) = evaluate([served], CASES)
    assert row.name == "marquee"
    hits = served.recommend(CASES, 10) == CASES.relevant.values[:, None]
    assert row.values["recall@10"] == pytest.approx(hits.any(axis=1).mean())
