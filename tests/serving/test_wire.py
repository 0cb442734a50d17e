from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import DiversityConfig
from serving.errors import UnknownItems
from serving.schemas import RankRequest, RecommendationRequest, Session, SessionEvent, bounds
from serving.wire import Arrival, rank_query, recommendation_query
from tests.serving.doubles import catalogue_of
from tests.serving.fakes import CONFIG

NOW = 1_000.0
BOUNDS = bounds(CONFIG)
CATALOGUE = catalogue_of(5)
ARRIVAL = Arrival("r", NOW, 1.0)

events = st.builds(
    SessionEvent,
    item_id=st.sampled_from(["i0", "i1", "i2", "i3", "i4", "gone"]),
    value=st.floats(-1e6, 1e6),
    timestamp=st.none() | st.floats(0, 2 * NOW),
)


@given(st.lists(events, min_size=1, max_size=20))
def test_the_history_holds_every_known_event_in_time_order(told):
    request = RecommendationRequest(session=Session.model_construct(events=told))
    query = recommendation_query(request, CATALOGUE, DiversityConfig(), ARRIVAL)
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
    assert query.history.value.tolist() == [np.float32(event.value) for *_, event in expected]
    assert (query.history.item_index.dtype, query.history.value.dtype) == (np.int32, np.float32)


@given(st.lists(st.sampled_from(["i0", "i1", "i2", "gone", "lost"]), min_size=1))
def test_items_to_rank_are_all_known_and_each_named_once(item_ids):
    unknown = [item_id for item_id in dict.fromkeys(item_ids) if item_id in {"gone", "lost"}]
    request = RankRequest.parse(json.dumps({"user_id": "u", "item_ids": item_ids}).encode(), BOUNDS)
    if unknown:
        with pytest.raises(UnknownItems) as caught:
            rank_query(request, CATALOGUE, ARRIVAL)
        assert list(caught.value.item_ids) == unknown
    else:
        query = rank_query(request, CATALOGUE, ARRIVAL)
        assert [CATALOGUE.ids[i] for i in query.items] == list(dict.fromkeys(item_ids))
        assert query.count == len(query.items)
