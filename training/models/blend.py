"""Several sources, one list: every source's score becomes a probability, and probabilities can be joined.

- Calibration by a logistic curve with smoothed targets: Platt, "Probabilistic outputs for support vector
  machines", 1999; fitted by Newton's method with backtracking as in Lin, Lin & Weng 2007.
- Joining: an item is taken unless every source that retrieved it is wrong (noisy-or, Pearl 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from training.bundle import Component
from training.models.arrays import Float32, Float64, Int64, Mask
from training.models.ragged import Items, Ragged, heads, ranked, splits

_ROW = 32
"""Bits of a key that hold the item; the user's row stands above them."""

_ITERATIONS = 50
"""Newton steps at most; a logistic curve of one variable takes about ten."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """p(taken | score) = 1 / (1 + exp(-(intercept + slope · score))), slope at least 0."""

    intercept: float
    slope: float

    def probability(self, score: Float32) -> Float64:
        return _logistic(self.intercept, self.slope, score)


NEVER = Calibration(-500.0, 0.0)
"""Of a source whose hits nobody has counted: its probability is that of nothing."""


def _logistic(intercept: float | Float64, slope: float | Float64, score: Float32) -> Float64:
    z = np.minimum(np.maximum(intercept + slope * score.astype(np.float64), -500), 30)
    return 1 / (1 + np.exp(-z))


@dataclass(frozen=True, slots=True)
class Blend:
    """Attributes:
    calibrations: source → its curve.
    quotas: source → how many of its best are kept whatever the others retrieve.
    """

    calibrations: Mapping[str, Calibration]
    quotas: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Bit i of an item's source bits stands for source i of these."""
        return tuple(self.calibrations)

    def blend(
        self, scored: Mapping[str, tuple[Items, Float32]], limit: int | Int64
    ) -> tuple[Items, Float32, NDArray[np.uint32]]:
        """For each of b users each item once, best first, ties by lower index.

        Args:
            scored: source → distinct items of each user, best first, and their scores; a source that was
                lost is left out, and one at least is left.
            limit: items at most, of everybody or of each, int64 [b], unless the quotas alone keep more.

        Returns:
            items, probability float32 [m], source bits uint32 [m].

        Raises:
            ValueError: a source that was never calibrated.
        """
        unknown = set(scored) - set(self.calibrations)
        if unknown:
            raise ValueError(f"no calibration for {', '.join(sorted(unknown))}; train again with this source")
        names = [name for name in self.names if name in scored]
        found = [scored[name][0] for name in names]
        key = np.concatenate([items.row << _ROW | items.values for items in found])
        keys, of = np.unique(key, return_inverse=True)
        # Of the probabilities that each source is wrong, the logarithms add up.
        misses = self._log_misses(names, [scored[name][1] for name in names])
        miss: Float64 = np.bincount(of, misses, len(keys)).astype(np.float64, copy=False)
        kept, bits, start = np.zeros(len(keys), bool), np.zeros(len(keys), np.uint32), 0
        for name, items in zip(names, found, strict=True):
            places = of[start : start + len(items.values)]
            start += len(items.values)
            kept[places[heads(items.row_splits, self.quotas.get(name, 0))]] = True
            bits[places] |= np.uint32(1 << self.names.index(name))
        row = keys >> _ROW
        chosen = _chosen(row, miss, kept, np.broadcast_to(limit, len(found[0])))
        taken = Ragged(
            (keys[chosen] & ((1 << _ROW) - 1)).astype(np.int32),
            splits(np.bincount(row[chosen], minlength=len(found[0]))),
        )
        return taken, -np.expm1(miss[chosen]).astype(np.float32), bits[chosen]

    def _log_misses(self, names: Sequence[str], scores: Sequence[Float32]) -> Float64:
        """log(1 - p) of every score, one source after another, in one pass over all of them: at these lengths
        a call of numpy costs more than its work."""
        curves = [self.calibrations[name] for name in names]
        lengths = [len(score) for score in scores]
        intercept = np.repeat([curve.intercept for curve in curves], lengths)
        slope = np.repeat([curve.slope for curve in curves], lengths)
        return np.log1p(-_logistic(intercept, slope, np.concatenate(scores)))

    def to_component(self) -> Component:
        sources = [
            {"name": name, "intercept": c.intercept, "slope": c.slope, "quota": self.quotas.get(name, 0)}
            for name, c in self.calibrations.items()
        ]
        return Component({"sources": sources}, {})

    @classmethod
    def from_component(cls, component: Component) -> Self:
        sources = component.settings["sources"]
        return cls(
            {s["name"]: Calibration(s["intercept"], s["slope"]) for s in sources},
            {s["name"]: s["quota"] for s in sources},
        )


def _chosen(row: Int64, miss: Float64, kept: Mask, limit: Int64) -> Int64:
    """int64 [m]: places, best first within each row: those kept, and the best others up to the limit."""
    best_first = ranked(row, -miss)
    row, kept = row[best_first], kept[best_first]
    spare = np.maximum(0, limit - np.bincount(row[kept], minlength=len(limit)))
    others = np.cumsum(~kept)
    begins = np.searchsorted(row, np.arange(len(limit)))
    before = np.concatenate([[0], others])[begins]  # others of the rows before
    chosen: Int64 = best_first[kept | (others - before[row] <= spare[row])]
    return chosen


def fit_blend(retrieved: Mapping[str, tuple[Float32, Mask]], quotas: Mapping[str, int]) -> Blend:
    """Args:
    retrieved: source → the scores of everything it retrieved for held-out events [m], and whether each
        was the item taken [m].
    quotas: of these sources, and of others: what is not known to be ever right adds no probability, and is
        kept by its quota, or where there is room.
    """
    curves = {name: fit_calibration(*found) for name, found in retrieved.items()}
    return Blend({**dict.fromkeys(quotas, NEVER), **curves}, dict(quotas))


def fit_calibration(score: Float32, taken: Mask) -> Calibration:
    """The most likely curve. Targets are smoothed by one event each way, so that a source that never (or
    always) hit gets a small (or large) probability instead of 0 (or 1). Where a higher score does not mean
    more hits the curve is flat: a source's own order is never turned round.
    """
    if not len(score):
        raise ValueError(
            "a source retrieved nothing to calibrate it on; check its size and the events held out"
        )
    hits = int(taken.sum())
    target = np.where(taken, (hits + 1) / (hits + 2), 1 / (len(taken) - hits + 2))
    flat = Calibration(float(np.log(target.mean() / (1 - target.mean()))), 0.0)
    centre, spread = float(score.mean(dtype=np.float64)), float(score.std(dtype=np.float64))
    if spread < np.finfo(np.float32).tiny:  # the division is done in float32
        return flat
    x = np.stack([np.ones(len(score)), (score - centre) / spread], axis=1)
    intercept, slope = _newton(x, target, np.array([flat.intercept, 0.0])) / (1, spread)
    return Calibration(float(intercept - slope * centre), float(slope)) if slope > 0 else flat


def _newton(x: Float64, target: Float64, w: Float64) -> Float64:
    """Minimises the logistic loss of targets [m] on inputs [m, 2] from `w`."""
    loss = _loss(x, target, w)
    for _ in range(_ITERATIONS):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - target)
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2), gradient)
        rate = 1.0
        while (new := _loss(x, target, w - rate * step)) > loss and rate > 1e-6:
            rate /= 2
        w, gain, loss = w - rate * step, loss - new, new
        if gain < 1e-9 * (1 + abs(loss)):
            break
    return w


def _loss(x: Float64, target: Float64, w: Float64) -> float:
    z = x @ w
    return float((np.logaddexp(0, z) - target * z).sum())
