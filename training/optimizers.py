"""AdamW (Loshchilov & Hutter 2019) for dense parameters, and Adam on the rows that a step touched for tables
whose gradients are sparse: a step on all rows of a million would cost a hundred times its batch.

Does not belong here: learning rates over time (`training.schedule`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Optimizers:
    """As one optimizer."""

    def __init__(self, each: tuple[torch.optim.Optimizer, ...]) -> None:
        self._each = each

    @staticmethod
    def of(network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizers:
        """Embeddings made with `sparse=True` have no weight decay: it would touch all their rows."""
        sparse = [
            module.weight
            for module in network.modules()
            if isinstance(module, nn.Embedding) and module.sparse
        ]
        known = {id(weight) for weight in sparse}
        dense = [parameter for parameter in network.parameters() if id(parameter) not in known]
        adamw = torch.optim.AdamW(dense, lr=learning_rate, weight_decay=weight_decay)
        return Optimizers((adamw, torch.optim.SparseAdam(sparse, lr=learning_rate)) if sparse else (adamw,))

    def set_rate(self, learning_rate: float) -> None:
        for optimizer in self._each:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def zero_grad(self) -> None:
        for optimizer in self._each:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        for optimizer in self._each:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(place): optimizer.state_dict() for place, optimizer in enumerate(self._each)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for place, optimizer in enumerate(self._each):
            optimizer.load_state_dict(state[str(place)])
