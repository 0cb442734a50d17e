"""Small seeded worlds for the model tests."""

from __future__ import annotations

import numpy as np
import torch

from training.fit.two_tower import TwoTower, TwoTowerSettings
from training.models.arrays import Float32, Int32, Int64
from training.models.linear import LinearItemModel
from training.models.statistics import DAY_S, ItemStatistics
from training.models.two_tower import TwoTowerScorer

N_ITEMS, USER_WIDTH, NOW = 40, 5, 30.5 * DAY_S


def sequences(rng: np.random.Generator, users: int = 12, longest: int = 15) -> tuple[Int64, Int32]:
    """Offsets and items; some users have no event, some meet an item twice."""
    lengths = rng.integers(0, longest + 1, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, rng.integers(0, N_ITEMS, offsets[-1]).astype(np.int32)


def history(rng: np.random.Generator, length: int) -> Int32:
    return rng.integers(0, N_ITEMS, length).astype(np.int32)


def floats(rng: np.random.Generator, *shape: int) -> Float32:
    return rng.standard_normal(shape).astype(np.float32)


def linear(rng: np.random.Generator, half_life: float = 3.0, events: int = 8) -> LinearItemModel:
    return LinearItemModel(floats(rng, N_ITEMS, N_ITEMS), half_life, events)


def network(rng: np.random.Generator) -> TwoTower:
    """Untrained, with every parameter away from the value it starts with."""
    settings = TwoTowerSettings(dimension=8, feature_dimension=4, history=6)
    model = TwoTower(settings, floats(rng, N_ITEMS, 3), USER_WIDTH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(np.asarray(0.4 * rng.standard_normal(parameter.shape))))
    return model.eval()


def scorer(rng: np.random.Generator) -> TwoTowerScorer:
    return network(rng).scorer()


def statistics(rng: np.random.Generator, events: int = 200) -> ItemStatistics:
    """A log of 30 days from 1970 on."""
    return ItemStatistics.from_events(
        rng.integers(0, N_ITEMS, events).astype(np.int32),
        rng.integers(1, 6, events).astype(np.float32),
        rng.integers(0, 30 * DAY_S, events),
        N_ITEMS,
    )
