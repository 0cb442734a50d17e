"""How a network is trained, of a recipe: what `training.loop` and `training.trainer` know of it."""

from __future__ import annotations

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
