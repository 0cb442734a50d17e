"""What the events of a data set mean: which of them are likes, and whether what was met may be met again.

Decided once, when a model is trained (`training.evidence`); it travels in the bundle's manifest, and serving
and evaluation read events by it, so that none of the three can differ. Standard library only, as manifests
are read before numpy is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Seen = Literal["exclude", "allow"]
"""What becomes of an item that a user has met: it is never recommended again, or it may be. An item whose
newest event is a dislike is not recommended in either case."""


ALLOW_FROM = 0.25
"""Share of events that repeat a pair of user and item from which on `auto` lets items be recommended again.
Songs and groceries repeat in half to nine tenths of all events, ratings and reviews in a few of a hundred;
while seen items are excluded, this is the share of events that nothing could have predicted."""


def seen_by(repeats: float) -> Seen:
    """What `auto` means for a data set of which this share of the events, 0 to 1, are repeats."""
    return "allow" if repeats >= ALLOW_FROM else "exclude"


@dataclass(frozen=True, slots=True)
class Feedback:
    """Attributes:
    seen: for requests that do not say it themselves.
    disliked: events of this value or a lower one are dislikes; None: none is. A dislike teaches no model that
        an item was chosen, is nothing to be predicted, and still counts as an item met.
    low: no reason may name an item whose newest value is this or lower; None: every liked one may be named.
    usual: the value of an ordinary like, which an event without a value counts as.
    """

    seen: Seen = "exclude"
    disliked: float | None = None
    low: float | None = None
    usual: float = 1.0

    def likes(self, value: NDArray[np.floating]) -> NDArray[np.bool_]:
        """bool, of `value`'s shape: which events are likes."""
        return above(value, self.disliked)


def sentence(feedback: Feedback, dislikes: int, events: int) -> str:
    """For people: what the events of a data set were taken to mean."""
    seen = {
        "exclude": "what a user has met is not recommended again",
        "allow": "what a user has met may be recommended again",
    }[feedback.seen]
    if feedback.disliked is None:
        return f"{seen}; no event is a dislike"
    return f"{seen}; values of {feedback.disliked:g} or less are dislikes ({dislikes:,} of {events:,} events)"


def above(value: NDArray[np.floating], threshold: float | None) -> NDArray[np.bool_]:
    """bool, of `value`'s shape: where it is over the threshold; everywhere if that is None."""
    mask: NDArray[np.bool_] = value > (-math.inf if threshold is None else threshold)
    return mask
