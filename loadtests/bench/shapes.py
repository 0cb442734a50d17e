"""Bundles of any size without training: networks as they begin, matrices of noise, and a catalogue and
statistics from a synthetic world. What a request costs depends on shapes, not on what was learned.

Does not belong here: anything whose answers matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from features.memory_store import MemoryOnlineStore
from features.schema import FeatureSchema
from training.bundle import Bundle, Component, Manifest
from training.data.synthetic import synthesize
from training.data.tables import Tables
from training.dataset import Dataset, build
from training.models.arrays import Float32
from training.models.blend import Blend, Calibration
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import NAMES
from training.models.retrieval import SOURCES
from training.models.scores import BaseModels
from training.models.statistics import ItemStatistics
from training.models.two_tower.estimator import scorer
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings
from training.recipe import default

KNOTS = 20
"""Places of each curve of the ranker, about as many as training gives it."""
EVENTS_A_USER = 40
"""Mean; MovieLens-100K has 106."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """Attributes:
    tables: the world the bundle knows; its users' rows are what an online store would hold.
    """

    bundle: Bundle
    tables: Tables

    @property
    def user_ids(self) -> list[str]:
        ids: list[str] = self.tables.users["user_id"].to_pylist()
        return ids

    def store(self) -> MemoryOnlineStore:
        tables = self.tables
        return MemoryOnlineStore.from_events(
            self.bundle.schema, tables.interactions, tables.items, tables.users
        )


def shaped(users: int, items: int, seed: int = 0) -> Shaped:
    """A bundle for a world of this size. Needs 8 bytes x items² for the linear models."""
    tables = synthesize(users, items, users * EVENTS_A_USER, seed)
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    data = build(tables, schema)
    rng = np.random.default_rng(seed)
    ease, sequential = _linear(rng, items), _linear(rng, items)
    models = BaseModels.of(_two_tower(data, seed), ease, sequential, _statistics(data))
    blend = Blend({name: Calibration(-3.0, 1.0) for name in SOURCES}, default().quotas)
    bundle = Bundle(
        _manifest(data),
        schema,
        data.catalogue,
        components(models, blend, _ranker(rng)),
        default().declaration(),
    )
    return Shaped(bundle, tables)


def components(models: BaseModels, blend: Blend, ranker: AdditiveRanker) -> dict[str, Component]:
    """By their names in the default recipe."""
    return {
        "two_tower": models.two_tower.to_component(),
        "ease": models.linear["ease"].to_component(),
        "sequential": models.linear["sequential"].to_component(),
        "statistics": models.statistics.to_component(),
        "blend": blend.to_component(),
        "ranker": ranker.to_component(),
    }


def _two_tower(data: Dataset, seed: int) -> TwoTowerScorer:
    torch.manual_seed(seed)
    return scorer(TwoTower(TwoTowerSettings(), data.item_profiles, data.schema.user_width))


def _linear(rng: np.random.Generator, items: int) -> LinearItemModel:
    weights: Float32 = rng.random((items, items), dtype=np.float32)
    return LinearItemModel.of(weights, default().options("ease").half_life)


def _statistics(data: Dataset) -> ItemStatistics:
    events = data.events
    return ItemStatistics.from_events(events.item_index, events.value, events.timestamp, data.n_items)


def _ranker(rng: np.random.Generator) -> AdditiveRanker:
    knots = [np.linspace(-5, 5, KNOTS, dtype=np.float32) for _ in NAMES]
    return AdditiveRanker(NAMES, knots, [rng.standard_normal(KNOTS).astype(np.float32) for _ in NAMES], 0.0)


MADE = "2020-01-01T00:00:00+00:00"


def _manifest(data: Dataset) -> Manifest:
    return Manifest("shaped", "", MADE, data.window, "generated: free", "", None, 0, {})
