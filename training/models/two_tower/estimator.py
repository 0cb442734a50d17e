"""How a two-tower is fitted: sampled softmax over the items of a batch; and the fitted one as it is served.

Does not belong here: epochs, learning rates, workers and checkpoints (`training.loop`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.losses import accidental_hits, log_frequency, sampled_softmax
from training.models.arrays import Float32, Int32, Int64
from training.models.eager import EagerNetwork
from training.models.histories import padded
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings


class TwoTowerEstimator:
    """Attributes:
    network: to be trained, on `device`.
    """

    def __init__(
        self,
        offsets: Int64,
        item_index: Int32,
        user_features: Float32,
        item_features: Float32,
        examples: Int64,
        device: torch.device,
        settings: TwoTowerSettings | None = None,
    ) -> None:
        """Draws the network's first weights from torch's global generator.

        Args:
            offsets, item_index: events of all users, as `histories` reads them.
            user_features: float32 [events, w], before each event.
            item_features: float32 [n, f].
            examples: events to learn from; how often each item is among them corrects the loss.
        """
        self._offsets, self._item_index, self._user_features = offsets, item_index, user_features
        self._items, self._device = len(item_features), device
        self.network = TwoTower(settings or TwoTowerSettings(), item_features, user_features.shape[1])
        self.network.to(device)
        taken = torch.from_numpy(item_index[examples].astype(np.int64))
        self._log_q = log_frequency(taken, self._items).to(device)

    def loss(self, forward: nn.Module, batch: NDArray[np.int64]) -> Tensor:
        """Sampled softmax over the batch's own items, as corrected by `training.losses`.

        Args:
            forward: `network`, or what distributes it.
            batch: events, int64 [b].
        """
        length, device = self.network.settings.history, self._device
        before = padded(self._offsets, self._item_index, batch, length, self._items)
        history = torch.from_numpy(before).to(device)
        target = torch.from_numpy(self._item_index[batch].astype(np.int64)).to(device)
        logits = forward(history, torch.from_numpy(self._user_features[batch]).to(device), target)
        own = torch.arange(len(batch), device=device)
        return sampled_softmax(logits, own, self._log_q[target], accidental_hits(history, target))


@torch.no_grad()
def scorer(tower: TwoTower) -> TwoTowerScorer:
    """The fitted two-tower as it is served, computed by torch; a copy of its weights."""
    items: Float32 = tower.items().cpu().numpy()
    norms = np.maximum(np.linalg.norm(items, axis=1), np.float32(1e-12))
    user = type(tower.user)(tower.settings, tower.user.user_features.in_features)
    user.load_state_dict(tower.user.state_dict())
    settings: dict[str, Any] = asdict(tower.settings)
    network = EagerNetwork(user, user.signature)
    return TwoTowerScorer(items / norms[:, None], norms, network, float(tower.log_scale.exp()), settings)
