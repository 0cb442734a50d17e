"""The DCN-v2 ranker as it is served: a network's scores, and their exact attribution to features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from training.bundle import Component
from training.models.arrays import Float32
from training.models.network import PARAMETERS, Network, Signature, TrainedNetwork
from training.models.shapley import shapley


class DcnRanker:
    """Attributes:
    names: of the features, in the order of a row.
    baseline: float32 [f], the mean training row, which contributions are against.
    knots: float32 [k_f] per feature, quantiles of the training rows.
    bias: the baseline's score.
    """

    NETWORK = "training.models.dcn.network"
    """The module with this family's arithmetic, whose `load(component)` makes it in torch."""

    def __init__(
        self,
        names: tuple[str, ...],
        network: Network,
        baseline: Float32,
        knots: Sequence[Float32],
        settings: Mapping[str, int],
    ) -> None:
        """Args:
        settings: the network's (`network.DcnSettings`), which a bundle carries on.
        """
        self.names, self.network, self._settings = names, network, settings
        self.baseline, self.knots = baseline, tuple(knots)
        self.bias = float(self.score(baseline[None])[0])

    def score(self, rows: Float32) -> Float32:
        """float32 [c] of rows [c, f]; NaN where a feature is not finite."""
        scores = self.network({"rows": np.ascontiguousarray(rows)})["scores"]
        return np.where(np.isfinite(rows).all(1), scores, np.float32(np.nan))

    def contributions(self, rows: Float32) -> Float32:
        """float32 [c, f]: exact Shapley values against the mean training row; they and `bias` add up to the
        score, within float rounding. Each row costs 2^f scores: meant for the few that are returned."""
        return shapley(self.score, rows, self.baseline)

    def to_component(self) -> Component:
        """What a bundle keeps of a fitted one. Raises TypeError where the network came from a bundle."""
        network = self.network
        if not isinstance(network, TrainedNetwork):
            raise TypeError("only a network that was trained here can be stored")
        arrays = {PARAMETERS + name: array for name, array in network.arrays().items()}
        lengths = np.array([len(knots) for knots in self.knots], np.int32)
        return Component(
            {"names": list(self.names), "dcn": self._settings, "network": network.signature.to_json()},
            {"baseline": self.baseline, "lengths": lengths, "knots": np.concatenate(self.knots), **arrays},
            network.onnx(),
        )

    @classmethod
    def from_component(cls, component: Component, network: Network) -> Self:
        """Raises ValueError where the network is not of the component's signature."""
        settings = component.settings
        if network.signature != Signature.from_json(settings["network"]):
            raise ValueError("the network has another signature than the component")
        arrays = component.arrays
        knots = np.split(arrays["knots"], np.cumsum(arrays["lengths"])[:-1])
        return cls(tuple(settings["names"]), network, arrays["baseline"], knots, settings["dcn"])
