"""How the meaning of a data set's events is found in the data set, where the recipe leaves it to that.

dislikes   where some values are above zero, those at zero or below: a signed scale, thumbs, a strength
           that is none. Where all are above zero (ratings, counts) or none is (a column left empty),
           nobody is taken to have disliked anything
low        on a rating scale, the lowest third of its range: one and two stars of five. A scale has
           a few distinct values, of which people mostly give the upper ones; counts are mostly low
seen       from the share of likes that repeat an earlier one of the same user and item
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.manifest import DataError
from training.data.repeats import repeated
from training.feedback import Feedback, Seen, above, seen_by

STEPS = (3, 21)
"""Distinct values of a rating scale: three at least, and no more than a scale of ten in halves has."""

LOW = 1 / 3
"""Part of a rating scale's range, from its lowest value, that no reason calls chosen."""


def decide(interactions: pa.Table, seen: str = "auto", disliked: str = "auto") -> Feedback:
    """Args:
        seen: "exclude", "allow" or "auto".
        disliked: "none", "auto", or the highest value that is a dislike.

    Raises:
        DataError: no event is left that is a like.
    """
    value = interactions["value"].to_numpy().astype(np.float32, copy=False)
    threshold = _threshold(value, disliked)
    likes = above(value, threshold)
    if len(value) and not likes.any():
        raise DataError(
            f"no interaction has a value above {threshold:g} (the highest is {value.max():g}), so that all "
            "are dislikes: train with --disliked none, or with a lower number"
        )
    return Feedback(
        seen=_seen(seen, repeated(interactions.filter(pa.array(likes)))),
        disliked=threshold,
        low=max((each for each in (threshold, _low(value)) if each is not None), default=None),
        usual=float(np.median(value[likes])) if len(value) else 1.0,
    )


def _threshold(value: NDArray[np.float32], disliked: str) -> float | None:
    if disliked == "auto":
        return 0.0 if len(value) and value.min() <= 0 < value.max() else None
    return None if disliked == "none" else number(disliked)


def number(disliked: str) -> float:
    """Raises DataError where it is no finite number."""
    try:
        threshold = float(disliked)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise DataError(f"--disliked {disliked}: give auto, none, or the highest value that is a dislike")
    return threshold


def _low(value: NDArray[np.float32]) -> float | None:
    distinct = np.unique(value)
    if not STEPS[0] <= len(distinct) <= STEPS[1]:
        return None
    low = float(distinct[0] + LOW * (distinct[-1] - distinct[0]))
    return None if above(value, low).mean() < 0.5 else low


def _seen(seen: str, repeated_share: float) -> Seen:
    if seen == "auto":
        return seen_by(repeated_share)
    if seen not in ("exclude", "allow"):
        raise DataError(f"--seen {seen}: give auto, exclude or allow")
    return "allow" if seen == "allow" else "exclude"
