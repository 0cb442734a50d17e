"""A ranker in which features are multiplied: DCN-v2, over the same features as the additive one.

- Cross layers beside a deep network: Wang et al., "DCN V2: Improved deep & cross network and practical
  lessons for web-scale learning to rank systems", WWW 2021.
- A number as its way through quantile bins, each bin with a vector: Gorishniy et al., "On embeddings for
  numerical features in tabular deep learning", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from training.bundle import Component
from training.models.arrays import Float32
from training.models.network import PARAMETERS, Signature, TensorSpec

_BEYOND = 1e30
"""Where the bins begin that a feature with fewer knots than another does not have."""


@dataclass(frozen=True, slots=True)
class DcnSettings:
    """Attributes:
    embedding: numbers that a feature becomes.
    cross: cross layers; each multiplies once more.
    hidden: width of the deep network's two layers.
    """

    embedding: int
    cross: int
    hidden: int


class DcnNetwork(nn.Module):
    """Shapes: n rows, f features, t bins, x = f * embedding."""

    left: Tensor
    width: Tensor

    def __init__(self, settings: DcnSettings, left: Float32, width: Float32) -> None:
        """Args:
        left, width: float32 [f, t], of every feature's bins (`bins_of`).
        """
        super().__init__()
        f, t = left.shape
        x = f * settings.embedding
        self.settings = settings
        self.register_buffer("left", torch.from_numpy(left.copy()))
        self.register_buffer("width", torch.from_numpy(width.copy()))
        self.embedding = nn.Parameter(torch.randn(f, t, settings.embedding) / t**0.5)
        self.cross = nn.ModuleList(nn.Linear(x, x) for _ in range(settings.cross))
        self.first, self.second = nn.Linear(x, settings.hidden), nn.Linear(settings.hidden, settings.hidden)
        self.score = nn.Linear(x + settings.hidden, 1, bias=False)  # a shift of all scores ranks nothing

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(TensorSpec("rows", "float32", (len(self.left),)),),
            outputs=(TensorSpec("scores", "float32", ()),),
            sizes={"batch": (128, 1_024, 8_192, 32_768)},  # candidates of 64 requests
        )

    def forward(self, rows: Tensor) -> Tensor:
        """[n] of rows float32 [n, f]."""
        filled = ((rows[:, :, None] - self.left) / self.width).clamp(0, 1)  # [n, f, t]
        start = torch.einsum("nft,fte->nfe", filled, self.embedding).flatten(1)
        crossed = start
        for layer in self.cross:
            crossed = start * layer(crossed) + crossed
        deep = F.gelu(self.second(F.gelu(self.first(start), approximate="tanh")), approximate="tanh")
        scores: Tensor = self.score(torch.cat([crossed, deep], dim=-1))[:, 0]
        return scores


def bins_of(knots: Sequence[Float32]) -> tuple[Float32, Float32]:
    """Where the bins between each feature's knots begin and how wide they are, both float32 [f, t]; t is that
    of the feature with most, others have bins that nothing reaches."""
    shape = (len(knots), max(len(each) for each in knots) - 1)
    left, width = np.full(shape, _BEYOND, np.float32), np.ones(shape, np.float32)
    for f, each in enumerate(knots):
        left[f, : len(each) - 1], width[f, : len(each) - 1] = each[:-1], np.diff(each)
    return left, width


def load(component: Component) -> DcnNetwork:
    """The fitted network of a bundle's component, ready to evaluate."""
    parameters: dict[str, Any] = {
        name.removeprefix(PARAMETERS): np.array(array)  # a copy: files may be mapped
        for name, array in component.arrays.items()
        if name.startswith(PARAMETERS)
    }
    network = DcnNetwork(DcnSettings(**component.settings["dcn"]), parameters["left"], parameters["width"])
    network.load_state_dict({name: torch.from_numpy(array) for name, array in parameters.items()})
    return network.eval()
