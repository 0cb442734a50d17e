"""Every model, small and real, over one synthetic world, and the bundle made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.compute as pc
import torch

from features.memory_store import MemoryOnlineStore
from features.schema import FeatureSchema
from loadtests.bench.shapes import components
from training.bundle import Bundle, Component, Manifest, read_bundle, write_bundle
from training.data.synthetic import synthesize
from training.data.tables import Tables
from training.dataset import Dataset, build
from training.fit.linear import fit_ease, fit_sequential
from training.models.arrays import Float32
from training.models.blend import Blend, Calibration
from training.models.linear import LinearItemModel
from training.models.ragged import Ragged
from training.models.ranker import AdditiveRanker
from training.models.ranking_features import NAMES, ranking_features
from training.models.scores import BaseModels, Scores
from training.models.statistics import ItemStatistics
from training.models.two_tower.estimator import scorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings
from training.recipe import default

N_ITEMS, N_USERS = 40, 30
COLD = N_ITEMS - 1
"""The item that nobody has met."""

SILENT = "silent"
"""The user who has a row and no events."""


@dataclass(frozen=True)
class Small:
    tables: Tables
    data: Dataset
    models: BaseModels
    ranker: AdditiveRanker
    blend: Blend

    @property
    def schema(self) -> FeatureSchema:
        return self.data.schema

    @property
    def now(self) -> float:
        """A day after the last event."""
        return float(self.data.events.timestamp.max()) + 86_400

    def store(self) -> MemoryOnlineStore:
        tables = self.tables
        return MemoryOnlineStore.from_events(self.schema, tables.interactions, tables.items, tables.users)

    def seen(self, user: int) -> list[int]:
        """All a user's items, oldest first; `user` as in `data.events.user_ids`."""
        start, end = self.data.events.offsets[user : user + 2]
        return list(map(int, self.data.events.item_index[start:end]))

    def components(self) -> dict[str, Component]:
        return components(self.models, self.blend, self.ranker)


@cache
def small() -> Small:
    tables = _tables()
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    data = build(tables, schema)
    models = _base(data)
    return Small(tables, data, models, _ranker(models, data), _blend())


def write_small(root: Path, components: dict[str, Component] | None = None) -> Path:
    world = small()
    components = world.components() if components is None else components
    declared = default().declaration()
    held = {name: spec for name, spec in declared.components.items() if name in components}
    return write_bundle(
        root,
        schema=world.schema,
        catalogue=world.data.catalogue,
        components=components,
        declaration=declared.model_copy(update={"components": held}),
        model_card="Synthetic.",
        manifest=Manifest(
            "small", "", "2024-01-01T00:00:00+00:00", world.data.window, "free", "", None, 0, {}
        ),
    )


@cache
def small_bundle() -> Bundle:
    """Through a real bundle's files, and read back."""
    with TemporaryDirectory() as root:
        return read_bundle(str(write_small(Path(root))))


def without(bundle: Bundle, name: str) -> Bundle:
    return replace(bundle, components={k: v for k, v in bundle.components.items() if k != name})


def curves(rows: Float32, tables: list[list[float]]) -> AdditiveRanker:
    """A ranker with these values at quantiles of these rows [r, f]."""
    knots = [
        np.quantile(column, np.linspace(0, 1, len(table))).astype(np.float32)
        for column, table in zip(rows.T, tables, strict=True)
    ]
    # np.interp wants places that rise
    rising = [k + np.arange(len(k), dtype=np.float32) * np.float32(1e-3) for k in knots]
    return AdditiveRanker(NAMES, rising, [np.array(t, np.float32) for t in tables], 0.25)


def _tables() -> Tables:
    tables = synthesize(N_USERS, N_ITEMS, 280, seed=3)
    met = pc.not_equal(tables.interactions["item_id"].cast("string"), f"i{COLD}")
    silent = {"user_id": [SILENT], "segment": [None]}
    users = tables.users.to_pydict()
    users = {name: values + silent[name] for name, values in users.items()}
    return Tables.assemble(
        tables.interactions.filter(met),
        tables.items,
        tables.users.from_pydict(users, schema=tables.users.schema),
        tables.about,
    )


def _base(data: Dataset) -> BaseModels:
    torch.manual_seed(5)
    settings = TwoTowerSettings(dimension=8, feature_dimension=4, history=6)
    tower = TwoTower(settings, data.catalogue.features, data.schema.user_width).eval()
    known = data.subset(data.train)
    return BaseModels.of(
        scorer(tower),
        LinearItemModel.of(fit_ease(known.offsets, known.item_index, N_ITEMS, 5.0), 3.0),
        LinearItemModel.of(fit_sequential(known.offsets, known.item_index, N_ITEMS, 3.0), 2.0),
        ItemStatistics.from_events(known.item_index, known.value, known.timestamp, N_ITEMS),
    )


def ranking_rows(models: BaseModels, data: Dataset) -> Float32:
    """Rows [r, f] of every item for some histories of the world."""
    at = data.test[:8]
    candidates = Ragged.of([np.arange(N_ITEMS, dtype=np.int32)] * len(at), np.int32)
    scores = Scores(models, data.histories(at), data.user_features[at])
    now = data.events.timestamp[at].astype(np.float64)
    return ranking_features(scores, models.statistics, now, candidates)


def _ranker(models: BaseModels, data: Dataset) -> AdditiveRanker:
    """More of everything is better, but for age and idleness."""
    weights = {"ease": 2.0, "sequential": 1.5, "age": -0.5, "idle": -0.25}
    rise = np.linspace(-1, 1, 7)
    return curves(ranking_rows(models, data), [(weights.get(name, 1.0) * rise).tolist() for name in NAMES])


def _blend() -> Blend:
    calibrations = {
        "two_tower": Calibration(-3.0, 0.2),
        "ease": Calibration(-3.0, 2.0),
        "sequential": Calibration(-3.0, 1.5),
        "popular": Calibration(-4.0, 0.5),
    }
    return Blend(calibrations, dict.fromkeys(calibrations, 3))
