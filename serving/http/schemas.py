"""The wire models, v1: what a request may say and what an answer holds.

Requests are validated straight from the body's bytes. Answers are typed dicts, so that they are built and
serialised once and never validated. Does not belong here: catalogue indices, HTTP, or what a filter means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from features.limits import MAX_ID_CHARS, MAX_VALUE
from serving.config import ServeConfig
from serving.types import DiversityMethod, Tier
from training.feedback import Seen

MAX_COUNT = 100
"""Items in one answer; a page, not an export."""

MAX_CONTEXT = 32
"""Entries of `context`."""

LATEST_TIMESTAMP = 253_402_300_799.0
"""Unix seconds, the end of the year 9999: a time in milliseconds is refused, not taken for the far future."""

Bounds = Mapping[str, float]
"""Field name → the largest value, or number of entries, that the configuration lets it have."""


def bounds(config: ServeConfig) -> Bounds:
    limits = config.limits
    return {
        "timeout_ms": config.budgets.request_max,
        "exclude_ids": limits.exclude_ids,
        "item_ids": limits.rank_items,
        "events": limits.session_events,
    }


def _within_bounds(value: Any, info: ValidationInfo) -> Any:
    assert info.context is not None
    assert info.field_name is not None
    bound = info.context[info.field_name]
    if isinstance(value, list):
        if len(value) > bound:
            raise PydanticCustomError("too_long", "must hold at most {bound} entries", {"bound": int(bound)})
    elif value > bound:
        raise PydanticCustomError("too_large", "must be at most {bound}", {"bound": bound})
    return value


def _context_value(value: object) -> str | float:
    if isinstance(value, str) and len(value) <= MAX_ID_CHARS:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise PydanticCustomError(
        "context_value", "must be a string of at most {chars} characters or a number", {"chars": MAX_ID_CHARS}
    )


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]
Ids = Annotated[list[Id], FailFast()]
WithinBounds = AfterValidator(_within_bounds)
Count = Annotated[int, Field(ge=1, le=MAX_COUNT, description="items wanted; fewer may match the filter")]
TimeoutMs = Annotated[
    Annotated[int, Field(ge=1), WithinBounds] | None,
    Field(description="milliseconds for the whole answer; what is not ready by then is left out"),
]
ExcludeIds = Annotated[Ids, WithinBounds, Field(description="items never to return; unknown ids are ignored")]
FilterField = Annotated[
    dict[str, Annotated[dict[str, JsonValue], Field(max_length=16)]] | None,
    Field(
        max_length=32,
        description="field → operator → operand; every one must hold",
        examples=[{"genres": {"any": ["Drama", "Crime"]}, "year": {"gte": 1990}}],
    ),
]
ContextField = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[
            str | float,
            PlainValidator(_context_value),
            WithJsonSchema({"anyOf": [{"type": "string", "maxLength": MAX_ID_CHARS}, {"type": "number"}]}),
        ],
    ],
    Field(max_length=MAX_CONTEXT, description="what is known of the moment: device, page, hour"),
]


class _Wire(BaseModel):
    """Unknown fields are errors, nothing is coerced, numbers are finite. Where a JSON object repeats a name
    its last value counts, as RFC 8259 allows."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, body: bytes, within: Bounds) -> Self:
        """The request in this body.

        Raises:
            pydantic.ValidationError: it is not JSON (one error of type `json_invalid`) or not this model.
        """
        return cls.model_validate_json(body, context=within)


class SessionEvent(_Wire):
    item_id: Id
    value: Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE)] | None = Field(
        None,
        description="strength of the event, on the scale of the interactions the models were trained on, "
        "where low ones may be dislikes; without one the item is taken to be liked as usual",
    )
    timestamp: Annotated[float, Field(ge=0, le=LATEST_TIMESTAMP)] | None = Field(
        None, description="unix seconds; without one the event is taken to have happened just now"
    )


class Session(_Wire):
    """What somebody without a user id did, in any order if timestamped, else oldest first."""

    events: Annotated[list[SessionEvent], FailFast(), WithinBounds] = Field(
        min_length=1, description="unknown items are ignored; with no known one the answer is what is popular"
    )


class DiversityRequest(_Wire):
    method: DiversityMethod | None = Field(None, description="the server's default where absent")
    strength: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="0 keeps the ranking, 1 ignores it; the server's default where absent"
    )


class _ForSomebody(_Wire):
    """A request names exactly one of a user and a session: a client that forgot both has a bug, which
    quietly popular items would hide. For somebody unknown, send any user id: an unknown one is answered
    with what is popular."""

    user_id: Id | None = None
    session: Session | None = None
    explain: bool = Field(False, description="say why each item was returned")
    context: ContextField = Field(default_factory=dict)
    timeout_ms: TimeoutMs = None

    @model_validator(mode="after")
    def _one_of_user_and_session(self) -> Self:
        if (self.user_id is None) == (self.session is None):
            raise PydanticCustomError(
                "exactly_one", "give exactly one of user_id and session", {"fields": ["user_id", "session"]}
            )
        return self


class RecommendationRequest(_ForSomebody):
    count: Count = 10
    filter: FilterField = None
    exclude_ids: ExcludeIds = Field(default_factory=list)
    seen: Seen | None = Field(
        None,
        description="exclude: nothing that the user has met before; allow: that too, but nothing they "
        "disliked. What the models were trained for where absent",
    )
    diversity: DiversityRequest | None = None


class RankRequest(_ForSomebody):
    item_ids: Annotated[Ids, WithinBounds] = Field(
        min_length=1, description="items to put in order; a repeated id counts once, an unknown one is a 404"
    )


class SimilarRequest(_Wire):
    count: Count = 10
    filter: FilterField = None
    exclude_ids: ExcludeIds = Field(default_factory=list)
    timeout_ms: TimeoutMs = None


class Anchor(TypedDict):
    """The item of the history that a reason names."""

    id: str
    title: str


class Term(TypedDict):
    """One term of an item's score: the feature's value and what it added."""

    feature: str
    value: float
    contribution: float


class Reason(TypedDict):
    sentence: str | None
    anchor: Anchor | None
    contributions: list[Term]


class Item(TypedDict):
    id: str
    rank: Annotated[int, Field(description="from 1")]
    score: Annotated[float, Field(description="the ranker's; the retrieval score where no ranker ran")]
    sources: Annotated[list[str], Field(description="the sources that brought it")]
    reasons: Annotated[list[Reason], Field(description="empty unless `explain` asked for them")]
    properties: dict[str, Any]


class Model(TypedDict):
    bundle: str
    version: str


class SimilarResponse(TypedDict):
    recommendation_id: Annotated[str, Field(description="the request's X-Request-Id")]
    items: list[Item]
    model: Model
    degraded: Annotated[list[str], Field(description="what was lost on the way, by name")]
    timings: Annotated[dict[str, float], Field(description="stage → milliseconds")]
    next_cursor: Annotated[None, Field(description="reserved")]


class RecommendationResponse(SimilarResponse):
    experiment: Annotated[None, Field(description="reserved")]
    tier: Annotated[Tier, Field(description="how much was known of who is asking")]
    feature_age_s: Annotated[
        float | None, Field(description="seconds since the user's newest event; null where none is known")
    ]


class FieldError(TypedDict):
    field: Annotated[str, Field(description="dotted path in the body, e.g. session.events.0.value")]
    reason: str


class _ProblemMembers(TypedDict):
    type: Annotated[str, Field(description="urn:marquee:problem:… or about:blank")]
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="urn:marquee:request:<X-Request-Id>, as in the logs")]


class ProblemDocument(_ProblemMembers, total=False):
    """Every error, RFC 9457."""

    errors: list[FieldError]


ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])
