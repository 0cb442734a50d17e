"""Several sources, one list: every source's score becomes a probability, and probabilities can be joined.

- Calibration by a logistic curve with smoothed targets: Platt, "Probabilistic outputs for support vector
  machines", 1999; fitted by Newton's method with backtracking as in Lin, Lin & Weng 2007.
- Joining: an item is taken unless every source that brought it is wrong (noisy-or, Pearl 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from training.bundle import Component
from training.models.arrays import Float32, Int32, Int64, Mask

Float64 = NDArray[np.float64]

_ITERATIONS = 50
"""Newton steps at most; a logistic curve of one variable takes about ten."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """p(taken | score) = 1 / (1 + exp(-(intercept + slope · score))), slope at least 0."""

    intercept: float
    slope: float

    def probability(self, score: Float32) -> Float64:
        return _logistic(self.intercept, self.slope, score)


def _logistic(intercept: float | Float64, slope: float | Float64, score: Float32) -> Float64:
    z = np.minimum(np.maximum(intercept + slope * score.astype(np.float64), -500), 30)
    return 1 / (1 + np.exp(-z))


def _best(score: Float32, count: int) -> Int64 | slice:
    """The rows of the `count` highest scores, ties to the first. Sources bring their best first, so that
    there is seldom anything to sort."""
    if (score[1:] <= score[:-1]).all():
        return slice(0, count)
    return np.argsort(-score, kind="stable")[:count]


@dataclass(frozen=True, slots=True)
class Blend:
    """Attributes:
    calibrations: source → its curve.
    quotas: source → how many of its best are kept whatever the others bring.
    """

    calibrations: Mapping[str, Calibration]
    quotas: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Bit i of an item's source bits stands for source i of these."""
        return tuple(self.calibrations)

    def blend(
        self, scored: Mapping[str, tuple[Int32, Float32]], limit: int
    ) -> tuple[Int32, Float32, NDArray[np.uint32]]:
        """Each item once, best first, ties by lower index.

        Args:
            scored: source → distinct items [m_s] and their scores; a source that was lost is left out.
            limit: items at most, unless the quotas alone keep more.

        Returns:
            item index int32 [m], probability float32 [m], source bits uint32 [m].

        Raises:
            ValueError: a source that was never calibrated.
        """
        unknown = set(scored) - set(self.calibrations)
        if unknown:
            raise ValueError(f"no calibration for {', '.join(sorted(unknown))}; train again with this source")
        named = [(name, *scored[name]) for name in self.names if name in scored]
        if not named:
            return np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint32)
        items, row = np.unique(np.concatenate([found for _, found, _ in named]), return_inverse=True)
        # Of the probabilities that each source is wrong, the logarithms add up.
        miss = np.bincount(
            row,
            self._log_misses([name for name, _, _ in named], [score for _, _, score in named]),
            minlength=len(items),
        )
        kept = np.zeros(len(items), bool)
        bits = np.zeros(len(items), np.uint32)
        start = 0
        for name, found, score in named:
            rows = row[start : start + len(found)]
            start += len(found)
            kept[rows[_best(score, self.quotas.get(name, 0))]] = True
            bits[rows] |= np.uint32(1 << self.names.index(name))
        best_first = np.argsort(miss, kind="stable")
        spare = max(0, limit - int(kept.sum()))
        room = ~kept[best_first]
        chosen = best_first[~room | (np.cumsum(room) <= spare)]
        return items[chosen], -np.expm1(miss[chosen]).astype(np.float32), bits[chosen]

    def blend_rows(
        self, scored: Mapping[str, tuple[Int32, Float32]], limit: int, n_items: int
    ) -> tuple[Int32, Float32, NDArray[np.uint32]]:
        """`blend` for several users, in few calls for all of them, on matrices of users by items.

        Args:
            scored: source → items [b, m_s], best first, and their scores; item `n_items` stands for none.

        Returns:
            as `blend`, [b, m] each; item `n_items` stands for none, anywhere in a row.
        """
        names = [name for name in self.names if name in scored]
        users = len(scored[names[0]][0])
        row = np.arange(users)[:, None]
        miss = np.zeros((users, n_items + 1))
        kept = np.zeros(miss.shape, bool)
        bits = np.zeros(miss.shape, np.uint32)
        misses = self._log_misses(names, [scored[name][1] for name in names])
        ends = np.cumsum([scored[name][1].shape[1] for name in names])[:-1]
        for name, missed in zip(names, np.split(misses, ends, axis=1), strict=True):
            items = scored[name][0]
            miss[row, items] += missed
            bits[row, items] |= np.uint32(1 << self.names.index(name))
            kept[row, items[:, : self.quotas.get(name, 0)]] = True
        spare = np.maximum(0, limit - kept[:, :n_items].sum(1, keepdims=True))
        items = _ragged(bits[:, :n_items] > 0)
        miss[:, n_items] = np.inf
        order = np.argsort(miss[row, items], axis=1, kind="stable")
        items = np.take_along_axis(items, order, axis=1)
        room = (items < n_items) & ~kept[row, items]
        items[room & (np.cumsum(room, axis=1) > spare)] = n_items
        return items, -np.expm1(miss[row, items]).astype(np.float32), bits[row, items]

    def _log_misses(self, names: Sequence[str], scores: Sequence[Float32]) -> Float64:
        """log(1 - p) of every score, one source after another along the last axis. In one pass over all
        sources: at these lengths a call of numpy costs more than its work."""
        curves = [self.calibrations[name] for name in names]
        lengths = [score.shape[-1] for score in scores]
        intercept = np.repeat([curve.intercept for curve in curves], lengths)
        slope = np.repeat([curve.slope for curve in curves], lengths)
        return np.log1p(-_logistic(intercept, slope, np.concatenate(scores, axis=-1)))

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


def _ragged(where: Mask) -> Int32:
    """For each row the columns that are True, ascending; what a row lacks is the number of columns."""
    row, column = where.nonzero()
    counts = where.sum(1)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = np.full((len(where), counts.max(initial=0)), where.shape[1], np.int32)
    columns[row, place] = column
    return columns


def fit_blend(retrieved: Mapping[str, tuple[Float32, Mask]], quotas: Mapping[str, int]) -> Blend:
    """Args:
    retrieved: source → the scores of everything it retrieved for held-out events [m], and whether each
        was the item taken [m].
    """
    return Blend({name: fit_calibration(*found) for name, found in retrieved.items()}, dict(quotas))


def fit_calibration(score: Float32, taken: Mask) -> Calibration:
    """The most likely curve. Targets are smoothed by one event each way, so that a source that never (or
    always) hit gets a small (or large) probability instead of 0 (or 1). Where a higher score does not mean
    more hits the curve is flat: a source's own order is never turned round.
    """
    if not len(score):
        raise ValueError(
            "a source brought nothing to calibrate it on; check its size and the events held out"
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
