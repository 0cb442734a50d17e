"""The values that flow through a pipeline: immutable, columnar, without a Python object per item.

Items are int32 indices into the bundle's catalogue; ids and properties appear only in the response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.feedback import Seen

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

Tier = Literal["personalized", "session", "popular"]
DiversityMethod = Literal["none", "mmr"]
RECEIVED = 256
"""Histories and rows of features that a process keeps as they came from another one. A user who asks again is
then the same object to what models remember by (`serving.reuse`, which keeps as many results)."""

_Pickled = tuple[Callable[..., Any], tuple[Any, ...]]
"""What `__reduce__` returns. Values cross between replicas thousands of times a second, and numpy takes 10 µs
to pickle an array however small; so their columns cross as plain bytes."""

FilterExpression = Mapping[str, Mapping[str, object]]
"""Field → operator → operand, e.g. `{"genres": {"any": ["Drama"]}, "year": {"gte": 1990}}`."""


@dataclass(frozen=True, slots=True)
class History:
    """What a user liked, oldest first. Items outside the catalogue are left out.

    Attributes:
        item_index: int32 [h].
        value: float32 [h], the strength of each event (a rating for films).
        timestamp: float64 [h], unix seconds, never decreasing.
    """

    item_index: Int32
    value: Float32
    timestamp: Float64

    def __len__(self) -> int:
        return len(self.item_index)

    @staticmethod
    def empty() -> History:
        """The same one each time."""
        return _NO_HISTORY

    def last(self, length: int) -> History:
        """The newest `length` events."""
        start = max(0, len(self) - length)
        return History(self.item_index[start:], self.value[start:], self.timestamp[start:])

    def __reduce__(self) -> _Pickled:
        columns = (self.timestamp, np.float64), (self.item_index, np.int32), (self.value, np.float32)
        return _history, (b"".join(_bytes(column, kind) for column, kind in columns),)


NO_ITEMS: Int32 = np.empty(0, np.int32)
_NO_HISTORY = History(NO_ITEMS, np.empty(0, np.float32), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class Diversity:
    """How much relevance to give up for variety: `strength` 0 keeps the ranking, 1 ignores it."""

    method: DiversityMethod
    strength: float

    def __reduce__(self) -> _Pickled:
        return Diversity, (self.method, self.strength)


@dataclass(frozen=True, slots=True)
class Query:
    """One request, as far as the pipeline has filled it in.

    Attributes:
        now: unix seconds; every age and recency is counted from here.
        deadline: seconds on this process's monotonic clock. Only the executor reads it: clocks of two
            nodes are not comparable, so a remote stage is bounded by its caller.
        session: True where the history came with the request and no user is known.
        items: int32 [m], what the request names: items to rank, or to find similar ones to.
        exclude: int32 [e], items never to be returned.
        seen: whether items that were met may be returned.
        met: int32, items met that `history` does not hold: disliked ones, and those of long ago.
        disliked: int32, items whose newest event is a dislike: never returned, and in no reason.
        history, met, disliked, user_features, feature_age_s: set by the query hydrator; `user_features` is
            float32 [schema.user_width], `feature_age_s` None where no row was read.
        user_version: of the user's row (`features.store.FeatureBatch.version`), 0 for a user without one;
            None where the store was not read.
        traceparent: the caller's span (W3C Trace Context) while the query is on its way to another replica.
    """

    request_id: str
    user_id: str | None
    now: float
    deadline: float
    count: int
    session: bool = False
    items: Int32 = field(default_factory=lambda: NO_ITEMS)
    filter: FilterExpression | None = None
    exclude: Int32 = field(default_factory=lambda: NO_ITEMS)
    seen: Seen = "exclude"
    met: Int32 = field(default_factory=lambda: NO_ITEMS)
    disliked: Int32 = field(default_factory=lambda: NO_ITEMS)
    diversity: Diversity = Diversity("none", 0.0)
    explain: bool = False
    context: Mapping[str, str | float] = field(default_factory=dict)
    history: History = field(default_factory=History.empty)
    user_features: Float32 | None = None
    feature_age_s: float | None = None
    user_version: int | None = None
    traceparent: str | None = None

    def __reduce__(self) -> _Pickled:
        features = None if self.user_features is None else _bytes(self.user_features, np.float32)
        items = (self.items, self.exclude, self.met, self.disliked)
        return _query, (_plain(self), tuple(_bytes(each, np.int32) for each in items), features)


@dataclass(frozen=True, slots=True)
class CandidateBatch:
    """Candidates, column by column.

    Attributes:
        item_index: int32 [n].
        source: uint32 [n], bit i set where source i of the pipeline brought the item.
        retrieval_score: float32 [n]; a source's own scale before blending, a probability-like calibrated
            score after it.
        features: float32 [n, f] in the ranker's order, or None before hydration.
        score: float32 [n], the ranker's, or None before scoring.
    """

    item_index: Int32
    source: NDArray[np.uint32]
    retrieval_score: Float32
    features: Float32 | None = None
    score: Float32 | None = None

    def __len__(self) -> int:
        return len(self.item_index)

    @staticmethod
    def empty() -> CandidateBatch:
        return CandidateBatch(np.empty(0, np.int32), np.empty(0, np.uint32), np.empty(0, np.float32))

    @staticmethod
    def of(item_index: Int32, retrieval_score: Float32) -> CandidateBatch:
        """A source's answer; the executor sets the source bits."""
        return CandidateBatch(item_index, np.zeros(len(item_index), np.uint32), retrieval_score)

    @staticmethod
    def concat(batches: Sequence[CandidateBatch]) -> CandidateBatch:
        """One batch after another. Features and scores survive only where every batch has them."""
        if not batches:
            return CandidateBatch.empty()
        features = [b.features for b in batches if b.features is not None]
        scores = [b.score for b in batches if b.score is not None]
        return CandidateBatch(
            np.concatenate([b.item_index for b in batches]),
            np.concatenate([b.source for b in batches]),
            np.concatenate([b.retrieval_score for b in batches]),
            np.concatenate(features) if len(features) == len(batches) else None,
            np.concatenate(scores) if len(scores) == len(batches) else None,
        )

    def take(self, where: NDArray[np.integer] | Mask) -> CandidateBatch:
        """The rows at these indices, in their order, or where the mask is True."""
        return CandidateBatch(
            self.item_index[where],
            self.source[where],
            self.retrieval_score[where],
            None if self.features is None else self.features[where],
            None if self.score is None else self.score[where],
        )

    def with_source(self, bit: int) -> CandidateBatch:
        source = np.full(len(self), 1 << bit, np.uint32)
        return CandidateBatch(self.item_index, source, self.retrieval_score, self.features, self.score)

    def with_features(self, features: Float32) -> CandidateBatch:
        return CandidateBatch(self.item_index, self.source, self.retrieval_score, features, self.score)

    def with_score(self, score: Float32) -> CandidateBatch:
        return CandidateBatch(self.item_index, self.source, self.retrieval_score, self.features, score)

    def __reduce__(self) -> _Pickled:
        columns = [
            _bytes(self.item_index, np.int32),
            _bytes(self.source, np.uint32),
            _bytes(self.retrieval_score, np.float32),
        ]
        if self.score is not None:
            columns.append(_bytes(self.score, np.float32))
        return _batch, (len(self), self.score is not None, b"".join(columns), self.features)


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage took, ms of wall time, and how many candidates it was given and let through."""

    stage: str
    ms: float
    candidates_in: int
    candidates_out: int


@dataclass(frozen=True, slots=True)
class Computed:
    """What was computed for one query, alone or together with others.

    Attributes:
        batch: the items to show, in order.
        personal: a personal source brought something.
        steps: that the executor did not run, in order; each took its time for all the queries, and so for
            each of them.
    """

    batch: CandidateBatch
    personal: bool
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Contribution:
    """One term of a score. The terms of an item and the ranker's bias add up to its score exactly."""

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item is where it is.

    Attributes:
        sentence: one plain sentence, or None where no term carries a reason worth saying.
        anchor_index: the item of the history that the sentence names, if any.
        contributions: the strongest terms, largest absolute value first.
    """

    sentence: str | None
    anchor_index: int | None
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer, still in catalogue indices.

    Attributes:
        batch: the k items in the order to show them.
        sources: names of the pipeline's sources; bit i of `batch.source` is `sources[i]`.
        explanations: one for each item, or empty where none was asked for or they were lost.
        degraded: names of what was lost on the way, in stage order.
        timings_ms: stage → milliseconds of wall time.
        derived: what outer layers made of the batch and its explanations, by name; shared by every answer
            that comes from one computation, so that it is made once.
    """

    query: Query
    batch: CandidateBatch
    sources: tuple[str, ...]
    tier: Tier
    explanations: tuple[Explanation, ...]
    degraded: tuple[str, ...]
    timings_ms: Mapping[str, float]
    derived: dict[str, bytes] = field(default_factory=dict)


_PLAIN = (
    "request_id",
    "user_id",
    "now",
    "deadline",
    "count",
    "session",
    "seen",
    "filter",
    "diversity",
    "explain",
    "context",
    "history",
    "feature_age_s",
    "user_version",
    "traceparent",
)
"""Fields of a query that are no array."""

_plain = attrgetter(*_PLAIN)


def _bytes(column: NDArray[Any], kind: type[np.generic]) -> bytes:
    return np.asarray(column, kind).tobytes()


@lru_cache(RECEIVED)
def _history(columns: bytes) -> History:
    events = len(columns) // 16
    return History(
        np.frombuffer(columns, np.int32, events, 8 * events),
        np.frombuffer(columns, np.float32, events, 12 * events),
        np.frombuffer(columns, np.float64, events),
    )


@lru_cache(RECEIVED)
def _features(row: bytes) -> Float32:
    return np.frombuffer(row, np.float32)


def _query(plain: tuple[Any, ...], columns: tuple[bytes, ...], features: bytes | None) -> Query:
    items, exclude, met, disliked = (np.frombuffer(column, np.int32) for column in columns)
    return Query(
        **dict(zip(_PLAIN, plain, strict=True)),
        items=items,
        exclude=exclude,
        met=met,
        disliked=disliked,
        user_features=None if features is None else _features(features),
    )


def _batch(rows: int, scored: bool, columns: bytes, features: Float32 | None) -> CandidateBatch:
    return CandidateBatch(
        np.frombuffer(columns, np.int32, rows),
        np.frombuffer(columns, np.uint32, rows, 4 * rows),
        np.frombuffer(columns, np.float32, rows, 8 * rows),
        features,
        np.frombuffer(columns, np.float32, rows, 12 * rows) if scored else None,
    )
