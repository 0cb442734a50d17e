"""Events that are there twice: the same event delivered again, or a pair of user and item that met again.

Does not belong here: what a model makes of repeats.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from training.data.manifest import Facts


def without_duplicates(interactions: pa.Table, facts: Facts) -> tuple[pa.Table, Facts]:
    """The interactions with every event once, and the facts with what was found.

    The same user, item, value and time is one event that was delivered more than once: its first row stays.
    The same pair at another time, or with another value, is a repeat and stays. Where the source gave no
    times nothing tells the two apart, and every row is an event.

    Args:
        interactions: `user_id` and `item_id` dictionary-encoded, `value`, `timestamp`.
        facts: `timed` says whether the source gave times.
    """
    pair = _pairs(interactions)
    again = pd.Series(pair).duplicated().to_numpy()
    duplicates = 0
    if facts.timed and again.any():
        copy = _copies(pair, again, interactions)
        duplicates = int(copy.sum())
        if duplicates:
            interactions, again = interactions.filter(pa.array(~copy)), again[~copy]
    events = len(again)
    distinct = events - int(again.sum())
    repeats = (events - distinct) / events if events else 0.0
    return interactions, replace(facts, duplicates=duplicates, pairs=distinct, repeats=repeats)


def repeated(interactions: pa.Table) -> float:
    """Share of these interactions, 0 to 1, whose pair of user and item was there before."""
    pair = _pairs(interactions)
    return float(pd.Series(pair).duplicated().mean()) if len(pair) else 0.0


def _pairs(interactions: pa.Table) -> NDArray[np.int64]:
    """int64 [n]: one number for each pair of user and item."""
    user, item = (interactions[name].unify_dictionaries().combine_chunks() for name in ("user_id", "item_id"))
    pairs = user.indices.to_numpy().astype(np.int64) * len(item.dictionary)
    pairs += item.indices.to_numpy()
    return np.asarray(pairs, np.int64)


def _copies(pair: NDArray[np.int64], again: NDArray[np.bool_], interactions: pa.Table) -> NDArray[np.bool_]:
    """bool [n]: rows equal to an earlier one. Only rows of pairs that are there twice are compared."""
    rows = np.flatnonzero(np.isin(pair, pair[again]))
    compared = pd.DataFrame(
        {
            "pair": pair[rows],
            "value": interactions["value"].to_numpy()[rows],
            "timestamp": interactions["timestamp"].to_numpy()[rows],
        }
    )
    copy = np.zeros(len(pair), np.bool_)
    copy[rows] = compared.duplicated().to_numpy()
    return copy
