"""Small seeded worlds for the model tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st

from training.models.arrays import Float32, Float64, Int32, Int64
from training.models.linear import LinearItemModel
from training.models.ragged import Items, Ragged
from training.models.scores import BaseModels
from training.models.statistics import DAY_S, ItemStatistics
from training.models.two_tower import estimator
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings

N_ITEMS, USER_WIDTH, NOW = 40, 5, 30.5 * DAY_S

LENGTHS = st.lists(st.integers(0, 12), max_size=5)
"""Of the rows of a batch, empty ones among them; of no row, too."""


def sequences(rng: np.random.Generator, users: int = 12, longest: int = 15) -> tuple[Int64, Int32]:
    """Offsets and items; some users have no event, some meet an item twice."""
    lengths = rng.integers(0, longest + 1, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, rng.integers(0, N_ITEMS, offsets[-1]).astype(np.int32)


def predictable(offsets: Int64) -> Int64:
    """int64 [e], ascending: every event that has one of the same user before it."""
    return np.setdiff1d(np.arange(offsets[-1]), offsets)


def history(rng: np.random.Generator, length: int) -> Int32:
    return rng.integers(0, N_ITEMS, length).astype(np.int32)


def ragged(rng: np.random.Generator, lengths: Sequence[int]) -> Items:
    """Histories of these lengths."""
    return Ragged.of([history(rng, length) for length in lengths], np.int32)


def alone(rows: Items, row: int) -> Items:
    """One row as a batch of its own."""
    return rows.take(np.array([row]))


def one(*items: int) -> Items:
    """A batch of one row."""
    return Ragged.of([np.array(items, np.int32)], np.int32)


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
    return estimator.scorer(network(rng))


def statistics(rng: np.random.Generator, events: int = 200) -> ItemStatistics:
    """A log of 30 days from 1970 on."""
    return ItemStatistics.from_events(
        rng.integers(0, N_ITEMS, events).astype(np.int32),
        rng.integers(1, 6, events).astype(np.float32),
        rng.integers(0, 30 * DAY_S, events),
        N_ITEMS,
    )


def moments(rng: np.random.Generator, users: int) -> Float64:
    """Of the last three days."""
    return np.float64(NOW) - DAY_S * rng.integers(0, 3, users).astype(np.float64)


def base_models(rng: np.random.Generator) -> BaseModels:
    return BaseModels.of(scorer(rng), linear(rng), linear(rng, 2.0), statistics(rng))
