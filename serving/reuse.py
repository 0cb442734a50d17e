"""Models that remember what they computed for the latest users: a source and the ranker ask for the same, and
so does the next request of the user.

A result is found by the very arrays it was computed from, which a request carries unchanged from stage to
stage; nothing is compared and nothing can be stale, as long as nobody writes into a query's arrays. Results
equal the plain models' within float32 rounding. Does not belong here: answers (`serving.cache`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from training.models.arrays import Float32, Int32
from training.models.linear import LinearItemModel
from training.models.two_tower import Parameters, TwoTowerScorer

KEPT = 256
"""Results a model keeps: several times the requests that may be in flight (`LimitsConfig.in_flight`), for
users who ask again. One of a linear model is 7 kB for 1,700 items: 256 of three are 5 MB; 60 MB for 20,000
items."""


class _Latest:
    """The results of the latest calls, by identity of their arguments. These are held: an id() must stay its
    own. For one event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, ...], tuple[tuple[object, ...], Float32]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, *arguments: object) -> Float32 | None:
        found = self._kept.get(tuple(map(id, arguments)))
        return None if found is None else found[1]

    def of(self, compute: Callable[..., Float32], *arguments: Any) -> Float32:
        result = self.find(*arguments)
        if result is None:
            result = compute(*arguments)
            result.flags.writeable = False
            self._kept[tuple(map(id, arguments))] = (arguments, result)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return result


class RememberingTwoTower(TwoTowerScorer):
    """`user_vector` is computed once a user and request."""

    def __init__(self, items: Float32, parameters: Parameters, scale: float) -> None:
        super().__init__(items, parameters, scale)
        self._latest = _Latest()

    def user_vector(self, history: Int32, user_features: Float32 | None) -> Float32:
        return self._latest.of(super().user_vector, history, user_features)


@dataclass(frozen=True, slots=True)
class RememberingLinear(LinearItemModel):
    """`score` is computed once a history; after it `score_items` only looks up."""

    _latest: _Latest = field(init=False, default_factory=_Latest, compare=False, repr=False)

    def score(self, history: Int32) -> Float32:
        return self._latest.of(super(RememberingLinear, self).score, history)

    def score_items(self, history: Int32, items: Int32) -> Float32:
        known = self._latest.find(history)
        return super(RememberingLinear, self).score_items(history, items) if known is None else known[items]
