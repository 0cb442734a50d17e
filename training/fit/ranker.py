"""Fits the curves of the additive ranker (`training.models.ranker`), listwise on what was retrieved
(`training.losses.listwise_softmax`). Who builds the lists belongs to the training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from training.losses import listwise_softmax
from training.models.arrays import Float32
from training.models.ranker import AdditiveRanker
from training.models.ranking_lists import TAIL, RankingLists, quantile_knots


@dataclass(frozen=True, slots=True)
class RankerSettings:
    """Attributes:
    steps: of Adam (Kingma & Ba 2015) under a one-cycle schedule; the same for every data set, since the
        curves are as many.
    batch: lists drawn a step.
    learning_rate: at its peak.
    smoothness: weight on the squared second differences of every curve.
    knots: quantiles with a knot each, the ends included; `tail` adds more where candidates are told apart.
    """

    steps: int = 360
    batch: int = 256
    learning_rate: float = 0.02
    smoothness: float = 3e-3
    knots: int = 16
    tail: tuple[float, ...] = TAIL


def fit_ranker(lists: RankingLists, settings: RankerSettings | None = None, seed: int = 0) -> AdditiveRanker:
    """Repeatable: equal lists and seed give equal curves on one machine.

    Raises:
        ValueError: no list, or a feature that is not finite.
    """
    settings = settings or RankerSettings()
    rows = lists.rows()
    knots = [quantile_knots(column, settings.knots, settings.tail) for column in rows.T]
    curves = _Curves(knots)
    left, fraction = curves.locate(lists.features)
    present = torch.from_numpy(lists.present)
    values = torch.zeros(curves.size, requires_grad=True)
    optimiser = torch.optim.Adam([values], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.steps):
        batch = torch.randint(len(present), (settings.batch,), generator=generator)
        scores = curves.terms(values, left[batch], fraction[batch]).sum(-1)
        loss = listwise_softmax(scores, present[batch]) + settings.smoothness * curves.bend(values)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        schedule.step()
    tables = [values.detach().numpy()[a:b].copy() for a, b in pairwise(curves.ends)]
    return _centred(AdditiveRanker(lists.names, knots, tables, 0.0), rows)


class _Curves:
    """All curves' values in one vector; curve f is `values[ends[f]:ends[f + 1]]`."""

    def __init__(self, knots: Sequence[Float32]) -> None:
        self._knots = knots
        self.ends = np.concatenate([[0], np.cumsum([len(k) for k in knots])]).tolist()
        self.size = self.ends[-1]
        self._inner = torch.from_numpy(
            np.concatenate([np.arange(a + 1, b - 1) for a, b in pairwise(self.ends)])
        )

    def locate(self, features: Float32) -> tuple[Tensor, Tensor]:
        """The knot at the left of every value, as a position in the vector, and the fraction of the way to
        the next one; both [e, c, f], 12 bytes a value."""
        left = np.empty(features.shape, np.int64)
        fraction = np.empty(features.shape, np.float32)
        for f, knots in enumerate(self._knots):
            x = np.clip(features[..., f], knots[0], knots[-1])
            k = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
            left[..., f] = k + self.ends[f]
            fraction[..., f] = (x - knots[k]) / (knots[k + 1] - knots[k])
        return torch.from_numpy(left), torch.from_numpy(fraction)

    def terms(self, values: Tensor, left: Tensor, fraction: Tensor) -> Tensor:
        return torch.lerp(values[left], values[left + 1], fraction)

    def bend(self, values: Tensor) -> Tensor:
        """Squared second differences, summed over all curves."""
        return (values[self._inner + 1] - 2 * values[self._inner] + values[self._inner - 1]).square().sum()


def _centred(ranker: AdditiveRanker, rows: Float32) -> AdditiveRanker:
    means = ranker.contributions(rows).mean(0, dtype=np.float64)
    tables = [table - np.float32(mean) for table, mean in zip(ranker.tables, means, strict=True)]
    return AdditiveRanker(ranker.names, ranker.knots, tables, float(means.sum()))
