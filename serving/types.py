"""The values that flow through a pipeline: immutable, columnar, without a Python object per item.

Items are int32 indices into the bundle's catalogue; ids and properties appear only in the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.feedback import Seen

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

Tier = Literal["personalized", "session", "popular"]
DiversityMethod = Literal["none", "mmr"]
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


NO_ITEMS: Int32 = np.empty(0, np.int32)
_NO_HISTORY = History(NO_ITEMS, np.empty(0, np.float32), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class Diversity:
    """How much relevance to give up for variety: `strength` 0 keeps the ranking, 1 ignores it."""

    method: DiversityMethod
    strength: float


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


@dataclass(frozen=True, slots=True)
class Shown:
    """The items of one answer, in the order to show them.

    Attributes:
        item_index: int32 [k].
        source: uint32 [k], bit i set where source i of the pipeline brought the item.
        retrieval_score: float32 [k], a probability-like calibrated score.
        score: float32 [k], the ranker's, or None where there was none.
    """

    item_index: Int32
    source: NDArray[np.uint32]
    retrieval_score: Float32
    score: Float32 | None

    def __len__(self) -> int:
        return len(self.item_index)


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
        shown: the k items in the order to show them.
        sources: names of the pipeline's sources; bit i of `shown.source` is `sources[i]`.
        explanations: one for each item, or empty where none was asked for or they were lost.
        degraded: names of what was lost on the way, in stage order.
        timings_ms: stage → milliseconds of wall time.
        derived: what outer layers made of the items and its explanations, by name; shared by every answer
            that comes from one computation, so that it is made once.
    """

    query: Query
    shown: Shown
    sources: tuple[str, ...]
    tier: Tier
    explanations: tuple[Explanation, ...]
    degraded: tuple[str, ...]
    timings_ms: Mapping[str, float]
    derived: dict[str, bytes] = field(default_factory=dict)
