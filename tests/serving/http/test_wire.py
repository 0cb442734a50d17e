from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import DiversityConfig
from serving.eligibility import hidden
from serving.errors import UnknownItems
from serving.http.schemas import RankRequest, RecommendationRequest, Session, SessionEvent, bounds
from serving.http.wire import Arrival, rank_query, recommendation_query
from tests.serving.doubles import catalogue_of
from tests.serving.fakes import CONFIG
from training.feedback import Feedback

NOW = 1_000.0
BOUNDS = bounds(CONFIG)
CATALOGUE = catalogue_of(5)
ARRIVAL = Arrival("r", NOW, 1.0)

events = st.builds(
    SessionEvent,
    item_id=st.sampled_from(["i0", "i1", "i2", "i3", "i4", "gone"]),
    value=st.none() | st.floats(-1e12, 1e12),
    timestamp=st.none() | st.floats(0, 2 * NOW),
)


@given(st.lists(events, min_size=1, max_size=20))
def test_the_history_holds_every_known_event_in_time_order(told):
    request = RecommendationRequest(session=Session.model_construct(events=told))
    query = recommendation_query(request, CATALOGUE, Feedback(), DiversityConfig(), ARRIVAL)
    expected = sorted(
        (
            (min(NOW, NOW if event.timestamp is None else event.timestamp), position, event)
            for position, event in enumerate(told)
            if event.item_id != "gone"
        ),
        key=lambda known: known[:2],
    )
    assert query.session
    assert query.history.timestamp.tolist() == [time for time, _, _ in expected]
    assert [CATALOGUE.ids[i] for i in query.history.item_index] == [event.item_id for *_, event in expected]
    usual = Feedback().usual
    assert query.history.value.tolist() == [
        np.float32(usual if event.value is None else event.value) for *_, event in expected
    ]
    assert (query.history.item_index.dtype, query.history.value.dtype) == (np.int32, np.float32)


@given(st.lists(st.sampled_from(["i0", "i1", "i2", "gone", "lost"]), min_size=1))
def test_items_to_rank_are_all_known_and_each_named_once(item_ids):
    unknown = [item_id for item_id in dict.fromkeys(item_ids) if item_id in {"gone", "lost"}]
    request = RankRequest.parse(json.dumps({"user_id": "u", "item_ids": item_ids}).encode(), BOUNDS)
    if unknown:
        with pytest.raises(UnknownItems) as caught:
            rank_query(request, CATALOGUE, Feedback(), ARRIVAL)
        assert list(caught.value.item_ids) == unknown
    else:
        query = rank_query(request, CATALOGUE, Feedback(), ARRIVAL)
        assert [CATALOGUE.ids[i] for i in query.items] == list(dict.fromkeys(item_ids))
        assert query.count == len(query.items)


SIGNED = Feedback("allow", disliked=0.0, usual=3.0)


def test_a_disliked_event_of_a_session_is_met_and_no_history():
    told = [
        {"item_id": "i0", "timestamp": 1.0},
        {"item_id": "i1", "value": -1, "timestamp": 2.0},
        {"item_id": "i2", "value": 1, "timestamp": 3.0},
        {"item_id": "i2", "value": 0, "timestamp": 4.0},
    ]
    body = json.dumps({"session": {"events": told}}).encode()
    query = recommendation_query(
        RecommendationRequest.parse(body, BOUNDS), CATALOGUE, SIGNED, DiversityConfig(), ARRIVAL
    )
    assert [CATALOGUE.ids[i] for i in query.history.item_index] == ["i0", "i2"]
    assert query.history.value.tolist() == [3.0, 1.0]
    assert [CATALOGUE.ids[i] for i in query.met] == ["i1", "i2"]
    assert [CATALOGUE.ids[i] for i in query.disliked] == ["i1", "i2"]
    assert hidden(query).tolist() == query.disliked.tolist()


@pytest.mark.parametrize(("asked", "meant"), [(None, "allow"), ("allow", "allow"), ("exclude", "exclude")])
def test_a_request_may_say_what_happens_to_seen_items(asked: str | None, meant: str):
    body = json.dumps({"user_id": "u", "seen": asked}).encode()
    request = RecommendationRequest.parse(body, BOUNDS)
    assert recommendation_query(request, CATALOGUE, SIGNED, DiversityConfig(), ARRIVAL).seen == meant
