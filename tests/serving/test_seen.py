"""What was met and what was thought of it, from any events to answers: nothing hidden is returned, no reason
names what was disliked, and training, evaluation and serving agree on what may be shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import rows as rows_module
from features.memory_store import MemoryOnlineStore
from serving import eligibility
from serving.build import compose
from serving.config import ServeConfig
from serving.past import past
from serving.pipeline import Pipeline
from serving.types import History, Query, Recommendation
from tests.serving.doubles import indices, query_of
from tests.serving.fakes import PATIENT
from tests.serving.models import N_ITEMS, small, small_bundle
from training import dataset as dataset_module
from training.bundle import Bundle
from training.data.tables import INTERACTIONS, Tables
from training.dataset import Dataset, build
from training.feedback import Feedback, Seen

WORLD, CONFIG = small(), ServeConfig(bundle="small", budgets=PATIENT)
USER = "u1"
Event = tuple[int, float]
"""Item and value; events of one user, an hour apart, oldest first."""

values = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 5.0])
pasts = st.lists(st.tuples(st.integers(0, N_ITEMS - 1), values), min_size=1, max_size=60)
lengths = st.integers(1, 8)
feedbacks = st.builds(
    Feedback,
    seen=st.sampled_from(["exclude", "allow"]),
    disliked=st.none() | st.sampled_from([-1.0, 0.0, 0.5]),
    low=st.none() | st.sampled_from([0.5, 1.0]),
)


def met(events: Sequence[Event]) -> set[int]:
    return {item for item, _ in events}


def disliked(events: Sequence[Event], feedback: Feedback) -> set[int]:
    newest = dict(events)
    limit = feedback.disliked
    return set() if limit is None else {item for item, value in newest.items() if value <= limit}


def hidden(events: Sequence[Event], feedback: Feedback, seen: Seen) -> set[int]:
    return met(events) if seen == "exclude" else disliked(events, feedback)


def table_of(events: Sequence[Event], user: str = USER) -> pa.Table:
    ids = WORLD.data.events.item_ids
    start = int(WORLD.now) - 3_600 * (len(events) + 24)
    return pa.table(
        {
            "user_id": pa.array([user] * len(events), pa.string()),
            "item_id": pa.array([ids[item] for item, _ in events], pa.string()),
            "value": pa.array([value for _, value in events], pa.float32()),
            "timestamp": pa.array([start + 3_600 * i for i in range(len(events))], pa.int64()),
        }
    ).cast(INTERACTIONS)


@contextmanager
def history_length(length: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "HISTORY_LENGTH", length)
        yield


@dataclass(frozen=True)
class Served:
    """The small bundle, meaning this, over a store that knows one user."""

    bundle: Bundle
    recommend: Pipeline

    @staticmethod
    def of(events: Sequence[Event], feedback: Feedback) -> Served:
        tables = WORLD.tables
        store = MemoryOnlineStore.from_events(WORLD.schema, table_of(events), tables.items, tables.users)
        bundle = replace(small_bundle(), manifest=replace(small_bundle().manifest, feedback=feedback))
        return Served(bundle, compose(bundle, store, CONFIG).recommend)

    def query(self, seen: Seen | None = None) -> Query:
        feedback = self.bundle.manifest.feedback
        return query_of(
            user_id=USER, now=WORLD.now, deadline=np.inf, count=30, explain=True, seen=seen or feedback.seen
        )

    def hydrated(self) -> Query:
        user = self.recommend.query_hydrator
        assert user is not None
        (query,) = asyncio.run(user.hydrate([self.query()]))
        return query

    def answer(self, seen: Seen | None = None) -> Recommendation:
        answer = asyncio.run(self.recommend.run(self.query(seen)))
        assert answer.degraded == ()
        return answer


@settings(deadline=None, max_examples=40)
@given(pasts, lengths, feedbacks, st.sampled_from([None, "exclude", "allow"]))
def test_nothing_hidden_is_returned_and_no_reason_names_what_was_disliked(
    events: list[Event], length: int, feedback: Feedback, asked: Seen | None
) -> None:
    """However many events there are, below the length of the online history or above it."""
    with history_length(length):
        answer = Served.of(events, feedback).answer(asked)
    gone = hidden(events, feedback, asked or feedback.seen)
    shown = answer.shown.item_index.tolist()
    assert not gone & set(shown)
    assert len(shown) == min(30, N_ITEMS - len(gone))
    low = -np.inf if feedback.low is None else feedback.low
    newest = dict(events)
    for explanation in answer.explanations:
        if explanation.anchor_index is not None:
            assert explanation.anchor_index not in disliked(events, feedback)
            assert newest[explanation.anchor_index] > low


def sentences(answer: Recommendation) -> list[tuple[str | None, int | None]]:
    return [(each.sentence, each.anchor_index) for each in answer.explanations]


@settings(deadline=None, max_examples=25)
@given(st.lists(pasts, min_size=2, max_size=4), lengths, feedbacks)
def test_users_of_one_batch_are_answered_as_each_alone(
    of_users: list[list[Event]], length: int, feedback: Feedback
) -> None:
    with history_length(length):
        served = [Served.of(events, feedback) for events in of_users]
        queries = [each.hydrated() for each in served]
        unhydrated = replace(served[0].recommend, query_hydrator=None, cache=None)

        async def at_once() -> list[Recommendation]:
            return await asyncio.gather(*map(unhydrated.run, queries))

        for i, answer in enumerate(asyncio.run(at_once())):
            shown = set(answer.shown.item_index.tolist())
            assert not shown & hidden(of_users[i], feedback, feedback.seen)
            alone = served[i].answer()
            assert answer.shown.item_index.tolist() == alone.shown.item_index.tolist()
            assert sentences(answer) == sentences(alone)


@settings(deadline=None, max_examples=40)
@given(pasts, lengths, feedbacks)
def test_training_and_serving_agree_on_what_may_be_shown(
    events: list[Event], length: int, feedback: Feedback
) -> None:
    """At every liked event: what is hidden in training lists and in evaluation is what serving would hide."""
    data = dataset_of(events, feedback)
    user = data.events.user_ids.index(USER)
    for position in np.flatnonzero(data.events.user_index == user).tolist():
        before = events[: int(data.at[position] - data.every.offsets[user])]
        assert set(data.hidden(position).tolist()) == hidden(before, feedback, feedback.seen)
        assert data.histories(np.array([position]))[0].tolist() == [
            item for item, value in before if feedback.disliked is None or value > feedback.disliked
        ]
    with history_length(length):
        served = Served.of(events, feedback)
        query = served.hydrated()
    assert set(eligibility.hidden(query).tolist()) == hidden(events, feedback, feedback.seen)


def dataset_of(events: Sequence[Event], feedback: Feedback) -> Dataset:
    others = table_of([(0, 5.0), (1, 5.0)], user="u0")
    interactions = pa.concat_tables([table_of(events), others]).unify_dictionaries()
    tables = Tables(interactions, WORLD.tables.items, WORLD.tables.users, WORLD.tables.about)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "_require_enough", lambda *_: None)
        return build(tables, WORLD.schema, feedback)


@given(pasts, st.integers(0, 60), feedbacks)
def test_a_past_is_the_same_however_much_of_it_is_old(
    events: list[Event], old: int, feedback: Feedback
) -> None:
    """Events that only the set of older items tells of hide and dislike as they did in the history."""
    old = min(old, len(events) - 1)
    recent, kept = events[old:], met(events[old:])
    older = {item: value for item, value in events[:old] if item not in kept}
    found = past(
        feedback,
        indices([item for item, _ in recent]),
        np.array([value for _, value in recent], np.float32),
        np.arange(len(recent), dtype=np.float64),
        indices(older),
        np.array(list(older.values()), np.float32),
    )
    likes = [event for event in recent if feedback.disliked is None or event[1] > feedback.disliked]
    assert list(zip(found.history.item_index.tolist(), found.history.value.tolist(), strict=True)) == likes
    assert {*found.history.item_index.tolist(), *found.met.tolist()} == met(events)
    assert set(found.disliked.tolist()) == disliked(events, feedback)


def test_an_item_of_no_catalogue_is_nobodys() -> None:
    found = past(
        Feedback(disliked=0.0), indices([-1, 3, -1]), np.array([1, -1, -1], np.float32), np.arange(3.0)
    )
    assert (len(found.history), found.met.tolist(), found.disliked.tolist()) == (0, [3], [3])
    assert found.history.item_index.dtype == History.empty().item_index.dtype
