"""What a ranker is, and the additive one: a score that is a sum of one curve per feature explains itself.

- Additive models: Lou, Caruana, Gehrke & Hooker, "Accurate intelligible models with pairwise interactions"
  (GA2M), KDD 2013; curves trained jointly by gradient descent: Agarwal et al., "Neural additive models",
  NeurIPS 2021. Here each curve is piecewise linear on quantile knots: a table, exact to evaluate.

How the curves are fitted: `training.fit.ranker`; what is in a row: `ranking_features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32


class Ranker(Protocol):
    """Scores candidates by a row of features each, and says what of a score each feature carries.

    Attributes:
        names: of the features, in the order of a row.
        knots: float32 [k_f] per feature, quantiles of the rows it was fitted on, ascending.
    """

    names: tuple[str, ...]
    knots: tuple[Float32, ...]

    def score(self, rows: Float32) -> Float32:
        """float32 [c] of rows [c, f]."""
        ...

    def contributions(self, rows: Float32) -> Float32:
        """float32 [c, f]: they and a constant add up to the score."""
        ...


class AdditiveRanker:
    """Attributes:
    names: of the features, in the order of a row.
    knots, tables: float32 [k_f] per feature, ascending places and the curve's values there; beyond the
        ends a curve stays level.
    bias: the mean score of the training rows; curves are centred, so that a positive term means "more
        than usual".
    """

    def __init__(
        self, names: Sequence[str], knots: Sequence[Float32], tables: Sequence[Float32], bias: float
    ) -> None:
        self.names, self.knots, self.tables, self.bias = tuple(names), tuple(knots), tuple(tables), bias
        # np.interp computes in float64; widened here, a curve is not widened in every call.
        self._curves = [
            (k.astype(np.float64), t.astype(np.float64)) for k, t in zip(knots, tables, strict=True)
        ]

    def score(self, rows: Float32) -> Float32:
        """float32 [c] of rows [c, f]; exactly `bias + contributions(rows).sum(1)`. 0.07 ms for 500 x 9."""
        scores: Float32 = self.contributions(rows).sum(1) + np.float32(self.bias)
        return scores

    def contributions(self, rows: Float32) -> Float32:
        """float32 [c, f]: each curve at the row's value. A NaN gives NaN."""
        terms = np.empty((len(self.names), len(rows)), np.float32)
        for f in range(len(terms)):
            terms[f] = self.terms(f, rows[:, f])
        return terms.T

    def terms(self, feature: int, values: Float32) -> Float32:
        """float32 [c]: the curve of one feature, by its place among `names`, at these values [c]."""
        knots, table = self._curves[feature]
        return np.interp(values, knots, table).astype(np.float32)

    def to_component(self) -> Component:
        lengths = np.array([len(knots) for knots in self.knots], np.int32)
        return Component(
            {"names": list(self.names), "bias": self.bias},
            {"lengths": lengths, "knots": np.concatenate(self.knots), "tables": np.concatenate(self.tables)},
        )

    @classmethod
    def from_component(cls, component: Component) -> Self:
        ends = np.cumsum(component.arrays["lengths"])[:-1]
        knots, tables = (np.split(component.arrays[name], ends) for name in ("knots", "tables"))
        return cls(component.settings["names"], knots, tables, component.settings["bias"])
