from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from serving.config import LimitsConfig, ServeConfig
from serving.http.openapi import RANK_EXAMPLES, RECOMMENDATION_EXAMPLES, SIMILAR_EXAMPLES
from serving.http.schemas import RankRequest, RecommendationRequest, SimilarRequest, bounds

LIMITS = LimitsConfig(exclude_ids=3, rank_items=4, session_events=2)
BOUNDS = bounds(ServeConfig(bundle="b", limits=LIMITS))


def errors_of(
    model: type[RecommendationRequest | RankRequest | SimilarRequest], document: object
) -> list[str]:
    """The dotted paths of what is wrong with the document."""
    with pytest.raises(ValidationError) as caught:
        model.parse(json.dumps(document).encode(), BOUNDS)
    return [".".join(map(str, error["loc"])) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("model", "examples"),
    [
        (RecommendationRequest, RECOMMENDATION_EXAMPLES),
        (RankRequest, RANK_EXAMPLES),
        (SimilarRequest, SIMILAR_EXAMPLES),
    ],
)
def test_documented_examples_are_valid(model, examples):
    for example in examples.values():
        model.parse(json.dumps(example["value"]).encode(), BOUNDS)


def test_what_is_left_out_has_its_documented_default():
    request = RecommendationRequest.parse(b'{"user_id": "u"}', BOUNDS)
    assert (request.count, request.explain, request.filter, request.exclude_ids) == (10, False, None, [])
    assert (request.diversity, request.seen, request.timeout_ms, request.context) == (None, None, None, {})
    session = RecommendationRequest.parse(b'{"session": {"events": [{"item_id": "i"}]}}', BOUNDS).session
    assert session is not None
    assert (session.events[0].value, session.events[0].timestamp) == (None, None)


def test_null_is_the_same_as_absent_where_absent_is_allowed():
    request = RecommendationRequest.parse(b'{"user_id": "u", "session": null, "filter": null}', BOUNDS)
    assert request == RecommendationRequest.parse(b'{"user_id": "u"}', BOUNDS)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 101}, "count"),
        ({"count": True}, "count"),
        ({"count": "10"}, "count"),
        ({"count": 10.5}, "count"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u" * 257}, "user_id"),
        ({"user_id": 196}, "user_id"),
        ({"explain": 1}, "explain"),
        ({"limit": 10}, "limit"),
        ({"filter": {"year": 1990}}, "filter.year"),
        ({"exclude_ids": ["a", 1]}, "exclude_ids.1"),
        ({"exclude_ids": ["a"] * 4}, "exclude_ids"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": 5001}, "timeout_ms"),
        ({"diversity": {"method": "dpp"}}, "diversity.method"),
        ({"diversity": {"strength": 1.01}}, "diversity.strength"),
        ({"diversity": {"lambda": 0.7}}, "diversity.lambda"),
        ({"context": {"device": None}}, "context.device"),
        ({"context": {"device": True}}, "context.device"),
        ({"context": {"device": "x" * 257}}, "context.device"),
        ({"context": {"device": 10**400}}, "context.device"),
        ({"context": {f"k{i}": 1 for i in range(33)}}, "context"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    assert errors_of(RecommendationRequest, {"user_id": "u"} | change) == [field]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "item_id"),
        ({"item_id": "i", "value": 1e13}, "value"),
        ({"item_id": "i", "timestamp": 893286638000}, "timestamp"),  # milliseconds
        ({"item_id": "i", "timestamp": -1}, "timestamp"),
        ({"item_id": "i", "rating": 5}, "rating"),
    ],
)
def test_a_wrong_event_is_named(event, field):
    document = {"session": {"events": [{"item_id": "i"}, event]}}
    assert errors_of(RecommendationRequest, document) == [f"session.events.1.{field}"]


@pytest.mark.parametrize("events", [[], [{"item_id": "i"}] * 3])
def test_a_session_holds_some_events_and_not_too_many(events):
    assert errors_of(RecommendationRequest, {"session": {"events": events}}) == ["session.events"]


@pytest.mark.parametrize("item_ids", [[], ["i"] * 5])
def test_a_ranking_is_of_some_items_and_not_too_many(item_ids):
    assert errors_of(RankRequest, {"user_id": "u", "item_ids": item_ids}) == ["item_ids"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_are_finite(number):
    body = f'{{"session": {{"events": [{{"item_id": "i", "value": {number}}}]}}}}'
    with pytest.raises(ValidationError, match="finite"):
        RecommendationRequest.parse(body.encode(), BOUNDS)


@pytest.mark.parametrize("document", [{}, {"user_id": "u", "session": {"events": [{"item_id": "i"}]}}])
@pytest.mark.parametrize("model", [RecommendationRequest, RankRequest])
def test_exactly_one_of_user_and_session(model, document):
    with pytest.raises(ValidationError) as caught:
        model.parse(
            json.dumps(document | ({"item_ids": ["i"]} if model is RankRequest else {})).encode(), BOUNDS
        )
    (error,) = caught.value.errors()
    assert error["ctx"]["fields"] == ["user_id", "session"]


def test_the_last_of_repeated_names_counts():
    assert RecommendationRequest.parse(b'{"user_id": "a", "user_id": "b"}', BOUNDS).user_id == "b"
