"""Between the wire and the pipeline: a request becomes a `Query`, a `Recommendation` becomes the answer's
bytes. Pure, and the only place where item ids and catalogue indices meet.

Does not belong here: HTTP, and anything that waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic_core import to_json

from serving.config import DiversityConfig
from serving.engine import Engine
from serving.errors import UnknownItems
from serving.http.schemas import (
    ITEMS,
    DiversityRequest,
    Item,
    RankRequest,
    Reason,
    RecommendationRequest,
    Session,
    SimilarRequest,
)
from serving.past import Past, past
from serving.types import NO_ITEMS, Diversity, Explanation, Int32, Query, Recommendation
from training.catalogue import Catalogue
from training.feedback import Feedback

ITEMS_JSON = "items.json"
"""What `Recommendation.derived` calls the serialised items."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the server adds to a request: its id, the time (unix seconds), and the deadline (seconds on
    this process's monotonic clock)."""

    request_id: str
    now: float
    deadline: float


def recommendation_query(
    request: RecommendationRequest,
    catalogue: Catalogue,
    feedback: Feedback,
    diversity: DiversityConfig,
    arrival: Arrival,
) -> Query:
    done = _past(request.session, catalogue, feedback, arrival.now)
    return Query(
        request_id=arrival.request_id,
        user_id=request.user_id,
        now=arrival.now,
        deadline=arrival.deadline,
        count=request.count,
        session=request.session is not None,
        filter=request.filter,
        exclude=_known(request.exclude_ids, catalogue),
        seen=request.seen or feedback.seen,
        diversity=_diversity(request.diversity, diversity),
        explain=request.explain,
        context=request.context,
        history=done.history,
        met=done.met,
        disliked=done.disliked,
    )


def rank_query(request: RankRequest, catalogue: Catalogue, feedback: Feedback, arrival: Arrival) -> Query:
    """Raises:
    UnknownItems: naming every item that the catalogue does not hold.
    """
    items = _every("item_ids", request.item_ids, catalogue)
    done = _past(request.session, catalogue, feedback, arrival.now)
    return Query(
        request_id=arrival.request_id,
        user_id=request.user_id,
        now=arrival.now,
        deadline=arrival.deadline,
        count=len(items),
        session=request.session is not None,
        items=items,
        explain=request.explain,
        context=request.context,
        history=done.history,
        met=done.met,
        disliked=done.disliked,
    )


def similar_query(request: SimilarRequest, item_id: str, catalogue: Catalogue, arrival: Arrival) -> Query:
    """Raises:
    UnknownItems: the catalogue does not hold the item.
    """
    return Query(
        request_id=arrival.request_id,
        user_id=None,
        now=arrival.now,
        deadline=arrival.deadline,
        count=request.count,
        items=_every("item_id", [item_id], catalogue),
        filter=request.filter,
        exclude=_known(request.exclude_ids, catalogue),
    )


def _known(item_ids: Sequence[str], catalogue: Catalogue) -> Int32:
    """The indices of the ids that the catalogue holds."""
    if not item_ids:
        return NO_ITEMS
    index = catalogue.indices(item_ids)
    return index[index >= 0]


def _every(field: str, item_ids: Sequence[str], catalogue: Catalogue) -> Int32:
    """The indices of all the ids, each once, in the order first named."""
    distinct = tuple(dict.fromkeys(item_ids))
    index = catalogue.indices(distinct)
    if (index < 0).any():
        missing = [item_id for item_id, i in zip(distinct, index.tolist(), strict=True) if i < 0]
        raise UnknownItems(field, missing)
    return index


def _past(session: Session | None, catalogue: Catalogue, feedback: Feedback, now: float) -> Past:
    """The session's events, oldest first. What has no time, or one that is still to come on the server's
    clock, happened now; what has no value is an ordinary like."""
    if session is None:
        return Past.nothing()
    events = session.events
    index = catalogue.indices(event.item_id for event in events)
    usual = feedback.usual
    value = np.array([usual if event.value is None else event.value for event in events], np.float32)
    told = np.array([now if event.timestamp is None else event.timestamp for event in events], np.float64)
    timestamp = np.minimum(told, now)
    order = np.argsort(timestamp, kind="stable")
    return past(feedback, index[order], value[order], timestamp[order])


def _diversity(request: DiversityRequest | None, default: DiversityConfig) -> Diversity:
    method, strength = (None, None) if request is None else (request.method, request.strength)
    return Diversity(
        default.method if method is None else method, default.strength if strength is None else strength
    )


def recommendation_body(recommendation: Recommendation, engine: Engine) -> bytes:
    """The answer of `/v1/recommendations` and `/v1/rank`, a `RecommendationResponse` as JSON in UTF-8."""
    age = recommendation.query.feature_age_s
    about_the_user = {
        "experiment": None,
        "tier": recommendation.tier,
        "feature_age_s": None if age is None else round(age, 3),
    }
    return _body(recommendation, engine, about_the_user)


def similar_body(recommendation: Recommendation, engine: Engine) -> bytes:
    """The answer of `/v1/items/{item_id}/similar`, a `SimilarResponse` as JSON in UTF-8."""
    return _body(recommendation, engine, {})


def _body(recommendation: Recommendation, engine: Engine, more: Mapping[str, object]) -> bytes:
    """The items' JSON is made once for all answers of one computation, and stands in the midst as it is."""
    items = recommendation.derived.get(ITEMS_JSON)
    if items is None:
        items = ITEMS.dump_json(_items(recommendation, engine.catalogue))
        recommendation.derived[ITEMS_JSON] = items
    rest = {
        "model": {"bundle": engine.bundle, "version": engine.version},
        "degraded": recommendation.degraded,
        "timings": {stage: round(ms, 3) for stage, ms in recommendation.timings_ms.items()},
        "next_cursor": None,
        **more,
    }
    request_id = to_json(recommendation.query.request_id)
    return b'{"recommendation_id":%b,"items":%b,%b' % (request_id, items, to_json(rest)[1:])


def _items(recommendation: Recommendation, catalogue: Catalogue) -> list[Item]:
    batch = recommendation.shown
    score = batch.retrieval_score if batch.score is None else batch.score
    explanations: Sequence[Explanation | None] = recommendation.explanations or (None,) * len(batch)
    names = {bits: _sources(bits, recommendation.sources) for bits in set(batch.source.tolist())}
    columns = zip(
        batch.item_index.tolist(),
        score.tolist(),
        batch.source.tolist(),
        explanations,
        catalogue.properties(batch.item_index),
        strict=True,
    )
    return [
        {
            "id": catalogue.ids[index],
            "rank": rank,
            "score": value,
            "sources": names[bits],
            "reasons": _reasons(explanation, catalogue),
            "properties": properties,
        }
        for rank, (index, value, bits, explanation, properties) in enumerate(columns, start=1)
    ]


def _sources(bits: int, names: tuple[str, ...]) -> list[str]:
    return [name for bit, name in enumerate(names) if bits >> bit & 1]


def _reasons(explanation: Explanation | None, catalogue: Catalogue) -> list[Reason]:
    if explanation is None or not (explanation.sentence or explanation.contributions):
        return []
    anchor = explanation.anchor_index
    return [
        {
            "sentence": explanation.sentence,
            "anchor": None
            if anchor is None
            else {"id": catalogue.ids[anchor], "title": catalogue.titles[anchor]},
            "contributions": [
                {
                    "feature": term.feature,
                    "value": float(term.value),
                    "contribution": float(term.contribution),
                }
                for term in explanation.contributions
            ],
        }
    ]
