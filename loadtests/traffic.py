"""The requests people make: who asks, how often, and for what. Seeded and pure; the same arguments give the
same bodies, byte for byte.

Does not belong here: sending them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Filter = Mapping[str, Mapping[str, object]]
"""As in the interface: field → operator → operand."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Attributes:
    exponent: of Zipf's law over users: the r-th most active asks r ** -exponent as often as the first. 1 is
        the law as Zipf found it, and what web and video traffic is close to (Breslau et al., "Web caching and
        Zipf-like distributions", 1999, found 0.64 to 0.83 for pages; 0 would have everybody ask alike).
    filtered: share of requests with a filter. explained: with reasons. visitors: from somebody without a
        user id, who sends a session along. A realistic minority each; most requests are the plain one.
    session_events: events of a visitor's session.
    count: items wanted.
    """

    exponent: float = 1.0
    filtered: float = 0.10
    explained: float = 0.10
    visitors: float = 0.05
    session_events: int = 5
    count: int = 10


PLAIN = Mix(filtered=0.0, explained=0.0, visitors=0.0)
"""Only the plain request: for a figure that should not be a mean of several kinds."""


def shares(users: int, exponent: float) -> NDArray[np.float64]:
    """float64 [users], how often each rank asks; falls with the rank and adds up to 1."""
    weight = np.arange(1, users + 1, dtype=np.float64) ** -exponent
    share: NDArray[np.float64] = weight / weight.sum()
    return share


def bodies(
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    filters: Sequence[Filter],
    count: int,
    seed: int = 0,
    mix: Mix | None = None,
) -> list[str]:
    """JSON bodies of `POST /v1/recommendations`, one line each, as they would arrive.

    Args:
        user_ids: at least one; which of them is how active is drawn.
        item_ids: of the catalogue, for sessions. Without any there are no visitors.
        filters: to draw from; without any nobody filters.
    """
    if not user_ids:
        raise ValueError("somebody has to ask: user_ids is empty")
    mix = mix or Mix()
    rng = np.random.default_rng(seed)
    ranked = rng.permutation(len(user_ids))
    who = ranked[rng.choice(len(user_ids), count, p=shares(len(user_ids), mix.exponent))]
    filtered, explained, visiting = rng.random((3, count)) < np.array(
        [[mix.filtered], [mix.explained], [mix.visitors]]
    )
    made = []
    for at in range(count):
        body: dict[str, object] = {"count": mix.count}
        if visiting[at] and item_ids:
            body["session"] = _session(rng, item_ids, mix.session_events)
        else:
            body["user_id"] = user_ids[who[at]]
        if filtered[at] and filters:
            body["filter"] = filters[int(rng.integers(len(filters)))]
        if explained[at]:
            body["explain"] = True
        made.append(json.dumps(body))
    return made


def _session(rng: np.random.Generator, item_ids: Sequence[str], events: int) -> dict[str, object]:
    chosen = rng.choice(len(item_ids), min(events, len(item_ids)), replace=False)
    return {"events": [{"item_id": item_ids[at]} for at in chosen]}
