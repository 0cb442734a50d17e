"""The two-tower as it is served: the items' vectors, and a network that makes a user's.

The network's arithmetic is `network.UserTower`'s, computed by whichever runtime was configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from training.bundle import Component
from training.models.ann import AnnIndex, approximate
from training.models.arrays import Float32
from training.models.network import PARAMETERS, Network, Signature, TrainedNetwork
from training.models.ragged import Items

INDEX = "index"
"""The array of a component that holds the ANN's lists."""


class TwoTowerScorer:
    """Users against the catalogue: logits are `scale * user_vectors(...) @ item_vectors.T`.

    Attributes:
        item_vectors: float32 [n, d], unit rows.
        item_norms: float32 [n]; histories are pooled from `item_vectors * item_norms`.
        network: makes user vectors; of the signature `network.UserTower` has.
        scale: what a cosine is multiplied by to become a logit.
    """

    NETWORK = "training.models.two_tower.network"
    """The module with this family's arithmetic, whose `load(component)` makes it in torch."""

    def __init__(
        self,
        item_vectors: Float32,
        item_norms: Float32,
        network: Network,
        scale: float,
        tower: Mapping[str, float],
        index: AnnIndex | None = None,
    ) -> None:
        """Args:
        tower: the network's settings (`network.TwoTowerSettings`), which a bundle carries on.
        index: of the item vectors, where there are too many to score all of them.
        """
        self.index = index
        self.item_vectors, self.item_norms = item_vectors, item_norms
        self.network, self.scale, self._tower = network, scale, tower
        self._history = network.signature.sizes["length"][-1]

    def user_vectors(self, histories: Items, user_features: Float32) -> Float32:
        """float32 [b, d], rows of unit length.

        Args:
            histories: oldest first; may be empty. Padded to the longest of them that the network reads.
            user_features: float32 [b, user_width]; zeros where they are not known.
        """
        if not len(histories):
            return np.empty((0, self.item_vectors.shape[1]), np.float32)
        longest = max(1, min(self._history, int(histories.lengths.max())))
        newest = histories.padded(longest, np.int32(0))  # [b, l], newest first
        events = self.item_vectors.take(newest, axis=0)
        events *= self.item_norms.take(newest)[..., None]  # in place: a copy takes five times as long
        length = np.minimum(histories.lengths, longest)
        given = {"events": events, "length": length, "user_features": user_features}
        return self.network(given)["user_vectors"]

    def indexed(self, queries: Float32) -> TwoTowerScorer:
        """The same with an ANN of its item vectors, where there are so many and it finds enough of them.

        Args:
            queries: float32 [m, d], users' vectors to measure its recall with.
        """
        index = approximate(self.item_vectors, queries)
        return TwoTowerScorer(
            self.item_vectors, self.item_norms, self.network, self.scale, self._tower, index
        )

    def to_component(self) -> Component:
        """What a bundle keeps of a trained one. Raises TypeError where the network came from a bundle."""
        network = self.network
        if not isinstance(network, TrainedNetwork):
            raise TypeError("only a network that was trained here can be stored")
        arrays = {PARAMETERS + name: array for name, array in network.arrays().items()}
        settings = {"scale": self.scale, "tower": self._tower, "network": network.signature.to_json()}
        if self.index is not None:
            settings["index"] = {"probes": self.index.probes, "recall": self.index.recall}
            arrays[INDEX] = self.index.serialised()
        return Component(
            settings,
            {"item_vectors": self.item_vectors, "item_norms": self.item_norms, **arrays},
            network.onnx(),
        )

    @classmethod
    def from_component(cls, component: Component, network: Network) -> Self:
        """Raises ValueError where the network is not of the component's signature."""
        settings, arrays = component.settings, component.arrays
        if network.signature != Signature.from_json(settings["network"]):
            raise ValueError("the network has another signature than the component")
        vectors = arrays["item_vectors"]
        index = AnnIndex.stored(vectors, arrays[INDEX], **settings["index"]) if INDEX in arrays else None
        tower = dict(settings["tower"])
        return cls(vectors, arrays["item_norms"], network, settings["scale"], tower, index)
