"""How a network is trained, of a recipe: what `training.loop` and `training.trainer` know of it, and how a
learning rate changes over a training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """What each number means stands in `default_recipe.yaml`."""

    seed: int
    workers: int
    gpu: bool
    epochs: int
    batch: int
    examples: int
    learning_rate: float
    weight_decay: float
    warmup: float


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the peak learning rate when `progress` of all steps is done: up, then down along a cosine
    (Smith and Topin 2017)."""
    if progress < warmup:
        return 0.04 + 0.96 * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
