"""The encoder and the ranker as one would first write them in torch: the trained network itself and eager
tensor operations over the same arrays. What the served numpy code is timed against, and held to."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from serving.assemble import Models
from training.fit.two_tower import TwoTower, TwoTowerSettings
from training.models.arrays import Float32, Int32
from training.models.linear import LinearItemModel
from training.models.ranking_features import LONG_HALF_LIFE, LONG_HISTORY
from training.models.two_tower import TwoTowerScorer


def network(scorer: TwoTowerScorer, user_width: int) -> TwoTower:
    """The network of these served parameters, ready to evaluate."""
    component = scorer.to_component()
    parameters = {name: torch.from_numpy(array) for name, array in component.arrays.items()}
    items = parameters.pop("items")
    settings = TwoTowerSettings(
        dimension=items.shape[1],
        feature_dimension=len(parameters["user_features.bias"]),
        history=len(parameters["recency"]),
    )
    model = TwoTower(settings, np.zeros((len(items), 1), np.float32), user_width)
    with torch.no_grad():
        model.item.weight.copy_(items)
        model.item_features.weight.zero_()
        model.log_scale.fill_(float(np.log(scorer.scale)))
    model.load_state_dict(parameters, strict=False)
    return model.eval()


class EagerRanker:
    """A user's candidates, scored. One object for many users; all arrays are tensors from the start."""

    def __init__(self, models: Models, user_width: int, now: float) -> None:
        self._network = network(models.two_tower, user_width)
        with torch.no_grad():
            self._items = self._network.items()
            self._unit = F.normalize(self._items, dim=-1)
        self._linear = [
            (torch.from_numpy(model.weights), model.half_life, model.history)
            for model in (models.ease, models.sequential, _long(models.ease))
        ]
        known = models.statistics.at(now)
        columns = (known.mean_value, known.popularity_all, known.popularity_week, known.age, known.idle)
        self._statistics = [torch.from_numpy(column.copy()) for column in columns]
        ranker = models.ranker
        self._curves = [
            (torch.from_numpy(knots), torch.from_numpy(table))
            for knots, table in zip(ranker.knots, ranker.tables, strict=True)
        ]
        self._bias = ranker.bias

    @torch.no_grad()
    def score(self, history: Int32, user_features: Float32, candidates: Int32) -> Float32:
        """float32 [c], the ranker's scores.

        Args:
            history: int32 [h], oldest first, at least one event.
            user_features: float32 [user_width].
            candidates: int32 [c].
        """
        items = torch.from_numpy(candidates.astype(np.int64))
        newest_first = torch.from_numpy(history[::-1].astype(np.int64))
        length = self._network.settings.history
        user = self._network.users(
            newest_first[None, :length], torch.tensor(user_features)[None], self._items
        )[0]
        columns = [
            self._network.log_scale.exp() * (self._unit[items] @ user),
            *(_faded(model, newest_first, items) for model in self._linear),
            *(column[items] for column in self._statistics),
        ]
        terms = [_on_curve(column, *curve) for column, curve in zip(columns, self._curves, strict=True)]
        scores: Float32 = (torch.stack(terms).sum(0) + self._bias).numpy()
        return scores


def _long(ease: LinearItemModel) -> LinearItemModel:
    return LinearItemModel(ease.weights, LONG_HALF_LIFE, LONG_HISTORY)


def _faded(model: tuple[Tensor, float, int], newest_first: Tensor, items: Tensor) -> Tensor:
    weights, half_life, length = model
    recent = newest_first[:length]
    decay = 0.5 ** (torch.arange(len(recent)) / half_life)
    return (decay @ weights[recent])[items]


def _on_curve(values: Tensor, knots: Tensor, table: Tensor) -> Tensor:
    x = values.clamp(knots[0], knots[-1])
    left = (torch.searchsorted(knots, x.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
    fraction = (x - knots[left]) / (knots[left + 1] - knots[left])
    return torch.lerp(table[left], table[left + 1], fraction)
