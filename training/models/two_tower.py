"""Two towers as they are served: the user's tower in numpy, several times as fast as the network
(`training.fit.two_tower`), whose arithmetic it repeats."""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32, Mask
from training.models.ragged import Items

Parameters = dict[str, Float32]


class TwoTowerScorer:
    """Users against the catalogue: logits are `scale * user_vectors(...) @ item_vectors.T`.

    Attributes:
        item_vectors: float32 [n, d], unit rows.
        scale: what a cosine is multiplied by to become a logit.
    """

    def __init__(self, items: Float32, parameters: Parameters, scale: float) -> None:
        """Args:
        items: float32 [n, d], `TwoTower.items()`.
        parameters: the user tower's, by the network's own names.
        """
        self._items, self._parameters = items, parameters
        self._key_query = parameters["key.weight"].T / np.float32(math.sqrt(items.shape[1]))
        self._position = parameters["key_position"] / np.float32(math.sqrt(items.shape[1]))
        self.item_vectors = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        self.scale = scale

    def user_vectors(self, histories: Items, user_features: Float32) -> Float32:
        """float32 [b, d], rows of unit length.

        Args:
            histories: oldest first; may be empty.
            user_features: float32 [b, user_width]; zeros where they are not known.
        """
        p, n = self._parameters, len(self._items)
        longest = max(1, min(len(p["recency"]), int(histories.lengths.max(initial=0))))
        newest = histories.padded(longest, n)  # [b, l], newest first
        met = newest < n
        events = self._items[np.minimum(newest, n - 1)] * met[..., None]  # [b, l, d]
        latest = events[:, 0]
        recent = _pool(np.broadcast_to(p["recency"][:longest], met.shape), events, met)
        query = latest @ p["query.weight"].T + p["query.bias"]
        by_item = (events @ (query @ self._key_query.T)[..., None])[..., 0]
        pooled = _pool(by_item + query @ self._position[:longest].T, events, met)
        attended = pooled @ p["value.weight"].T + p["value.bias"]
        features = user_features @ p["user_features.weight"].T + p["user_features.bias"]
        known = np.concatenate([recent, latest, attended, features], axis=1)
        hidden = _gelu(known @ p["hidden.weight"].T + p["hidden.bias"])
        user = recent + hidden @ p["output.weight"].T + p["output.bias"]
        unit: Float32 = user / np.maximum(np.linalg.norm(user, axis=1, keepdims=True), np.float32(1e-12))
        return unit

    def to_component(self) -> Component:
        return Component({"scale": self.scale}, {"items": self._items, **self._parameters})

    @classmethod
    def from_component(cls, component: Component) -> Self:
        parameters = dict(component.arrays)
        return cls(parameters.pop("items"), parameters, component.settings["scale"])


def _pool(logits: Float32, events: Float32, met: Mask) -> Float32:
    """[b, d]: the events [b, l, d] weighted by a softmax of the logits [b, l] of those met; zero where none
    is."""
    logits = np.where(met, logits, np.float32(-np.inf))
    weights = np.exp(logits - logits.max(1, keepdims=True, initial=np.finfo(np.float32).min))
    weights /= np.maximum(weights.sum(1, keepdims=True), np.float32(1e-30))
    pooled: Float32 = (weights[:, None] @ events)[:, 0]
    return pooled


def _gelu(x: Float32) -> Float32:
    """The tanh form, as in the network: numpy has no erf."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    bent: Float32 = 0.5 * x * (1 + np.tanh(inner))
    return bent
