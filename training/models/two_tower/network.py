"""Two towers: one makes a vector of an item, one of a user's history and features; near is likely.

- The towers, and training on in-batch negatives with the logQ correction (`training.losses`): Yi et al.,
  "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
- The user as a pool of the items met: Covington et al., "Deep neural networks for YouTube recommendations",
  RecSys 2016; attention asked by the latest item: Liu et al., "STAMP", KDD 2018.

The only definition of this arithmetic: every runtime computes `UserTower`, as torch or exported. It reads the
vectors of the items met, not their numbers: the catalogue's table is held once, by its caller, and the
exported model is of the network's own size. Optimiser, epochs and workers belong to the training loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from training.bundle import Component
from training.models.arrays import Float32
from training.models.linear import DENSE_ITEMS
from training.models.network import PARAMETERS, Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    """Chosen on MovieLens-100K's validation events.

    Attributes:
        dimension: d, of item and user vectors.
        feature_dimension: of what user features are projected to.
        history: newest events read.
        dropout: share of hidden units left out while training.
        history_dropout: share of a history's events left out while training, never the newest.
        buckets: quantile buckets that a column with many values is cut into.
        initial_scale: factor on the cosine before training; it is learned.
    """

    dimension: int = 64
    feature_dimension: int = 48
    history: int = 50
    dropout: float = 0.2
    history_dropout: float = 0.1
    buckets: int = 12
    initial_scale: float = 10.0


class UserTower(nn.Module):
    """The user's side. Shapes: b users, l history columns, d dimensions."""

    def __init__(self, settings: TwoTowerSettings, user_width: int) -> None:
        """Args:
        user_width: of a user's encoded features.
        """
        super().__init__()
        d = settings.dimension
        self.settings = settings
        self.user_features = nn.Linear(user_width, settings.feature_dimension)
        self.recency = nn.Parameter(-0.1 * torch.arange(settings.history).float())  # logits of pooling by age
        self.key_position = nn.Parameter(0.02 * torch.randn(settings.history, d))
        self.query, self.value = nn.Linear(d, d), nn.Linear(d, d)
        self.key = nn.Linear(d, d, bias=False)
        self.hidden = nn.Linear(3 * d + settings.feature_dimension, 2 * d)
        self.output = nn.Linear(2 * d, d)

    @property
    def signature(self) -> Signature:
        history = self.settings.history
        return Signature(
            inputs=(
                TensorSpec("events", "float32", ("length", self.settings.dimension)),
                TensorSpec("length", "int64", ()),
                TensorSpec("user_features", "float32", (self.user_features.in_features,)),
            ),
            outputs=(TensorSpec("user_vectors", "float32", (self.settings.dimension,)),),
            sizes={"batch": (1, 4, 16, 64), "length": (max(1, history // 4), history)},
        )

    def forward(self, events: Tensor, length: Tensor, user_features: Tensor) -> Tensor:
        """[b, d], unit rows.

        A pool of values is the value of a pool, and a key's product with a query is a product with the item
        itself: only what was pooled is projected.

        Args:
            events: float32 [b, l, d], vectors of the items met, newest first; what is beyond `length` is not
                read.
            length: int64 [b], events of each user.
            user_features: float32 [b, user_width].
        """
        columns = events.shape[1]
        met = torch.arange(columns, device=events.device) < length[:, None]
        events = events * met[..., None]
        kept = met
        if self.training:
            kept = met & (torch.rand(met.shape, device=events.device) >= self.settings.history_dropout)
            kept[:, 0] = met[:, 0]
        latest = events[:, 0]
        recent = _pool(self.recency[:columns].expand(met.shape), events, kept)
        query = self.query(latest)
        by_item = torch.einsum("bld,bd->bl", events, query @ self.key.weight)
        affinity = (by_item + query @ self.key_position[:columns].T) / math.sqrt(self.settings.dimension)
        attended = self.value(_pool(affinity, events, kept))
        known = torch.cat([recent, latest, attended, self.user_features(user_features)], dim=-1)
        hidden = F.gelu(self.hidden(known), approximate="tanh")
        change = self.output(F.dropout(hidden, self.settings.dropout, self.training))
        return F.normalize(recent + change, dim=-1)


class TwoTower(nn.Module):
    """Both sides, for training. Shapes as in `UserTower`, and n items."""

    expanded: Tensor

    def __init__(self, settings: TwoTowerSettings, item_features: Float32, user_width: int) -> None:
        """Args:
        item_features: float32 [n, f], the catalogue's encoded features.
        user_width: of a user's encoded features.
        """
        super().__init__()
        d, expanded = settings.dimension, expand(item_features, settings.buckets)
        self.settings = settings
        self.register_buffer("expanded", torch.from_numpy(expanded), persistent=False)
        self.item = nn.Embedding(len(item_features), d, sparse=len(item_features) > DENSE_ITEMS)
        self.item_features = nn.Linear(expanded.shape[1], d, bias=False)
        self.user = UserTower(settings, user_width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.initial_scale)))
        for weight in (self.item.weight, self.item_features.weight):
            nn.init.normal_(weight, std=0.05)

    def forward(self, history: Tensor, user_features: Tensor, target: Tensor) -> Tensor:
        """Logits [b, b] of every event against every event's item; the diagonal holds the items taken.

        Args:
            history: int64 [b, l], newest first, padded with n (`histories.padded`).
            user_features: float32 [b, user_width].
            target: int64 [b], the items taken.
        """
        if not self.item.sparse:
            items = self.items()
        else:  # only those of the batch, and numbered among themselves
            wanted, place = torch.unique(
                torch.cat([history.reshape(-1), target]).clamp(max=len(self.item.weight) - 1),
                return_inverse=True,
            )
            items = self.item(wanted) + self.item_features(self.expanded[wanted])
            missing = history == len(self.item.weight)
            history = place[: history.numel()].reshape(history.shape).masked_fill(missing, len(items))
            target = place[missing.numel() :]
        users = self.users(history, user_features, items)
        return self.log_scale.exp() * users @ F.normalize(items[target], dim=-1).T

    def items(self) -> Tensor:
        """[n, d], not normalised: what histories are pooled from; an item's vector is its direction."""
        vectors: Tensor = self.item.weight + self.item_features(self.expanded)
        return vectors

    def users(self, history: Tensor, user_features: Tensor, items: Tensor) -> Tensor:
        """[b, d], unit rows."""
        events = F.embedding(history.clamp(max=len(items) - 1), items)  # [b, l, d]
        users: Tensor = self.user(events, (history < len(items)).sum(1), user_features)
        return users


def load(component: Component) -> UserTower:
    """The trained user tower of a bundle's component, ready to evaluate."""
    parameters: dict[str, Any] = {
        name.removeprefix(PARAMETERS): torch.from_numpy(np.array(array))  # a copy: safetensors may be mapped
        for name, array in component.arrays.items()
        if name.startswith(PARAMETERS)
    }
    settings = TwoTowerSettings(**component.settings["tower"])
    tower = UserTower(settings, parameters["user_features.weight"].shape[1])
    tower.load_state_dict(parameters)
    return tower.eval()


def _pool(logits: Tensor, events: Tensor, kept: Tensor) -> Tensor:
    """[b, d]: the events [b, l, d] weighted by a softmax of the logits [b, l]; zero where none is kept."""
    weights = logits.masked_fill(~kept, -1e9).softmax(dim=-1) * kept
    return (weights[:, None] @ events)[:, 0]


def expand(features: Float32, buckets: int) -> Float32:
    """Columns with few values as they are, each one with many as one column per quantile bucket.

    A straight line through an item's year says "older is better" or the reverse; buckets can say "the
    eighties". Gorishniy et al., "On embeddings for numerical features in tabular deep learning", 2022.

    Args:
        features: float32 [n, f].

    Returns:
        float32 [n, f']: the kept columns, then the buckets.
    """
    distinct = np.array([len(np.unique(column)) for column in features.T], int)
    many = distinct > buckets
    one_hot = [features[:, ~many]]
    for column in features[:, many].T:
        edges = np.unique(np.quantile(column, np.arange(1, buckets) / buckets))
        one_hot.append(np.eye(len(edges) + 1, dtype=np.float32)[np.searchsorted(edges, column, side="right")])
    return np.concatenate(one_hot, axis=1, dtype=np.float32)
