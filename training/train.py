"""The whole recipe: from tables and schema to a bundle.

1. Base models without each user's newest training events ("held"), and lists of what they retrieve there.
2. On these lists: the ranker, and the calibration of the sources.
3. The same base models from scratch on all training events ("serving"). From scratch, because scores of a
   network trained further are distributed otherwise than those the ranker learned to read.
4. Validation figures, model card, bundle.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from features.schema import FeatureSchema
from training.bundle import Component, Manifest, write_bundle
from training.candidates import build_lists
from training.data.manifest import DataError
from training.data.tables import Tables
from training.dataset import Dataset, build
from training.declared import declaration
from training.evaluate import Cases, Ease, Popularity, Row, evaluate
from training.evidence import decide
from training.fit.linear import fit_ease, fit_sequential
from training.fit.ranker import fit_ranker
from training.loop import Inputs, Weights
from training.model_card import model_card
from training.models.arrays import Int64
from training.models.blend import Blend
from training.models.linear import LinearItemModel
from training.models.ranker import AdditiveRanker
from training.models.scores import BaseModels
from training.models.statistics import ItemStatistics
from training.models.two_tower.estimator import scorer
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings
from training.offline import OfflineRecommender
from training.recipe import Recipe

HELD, SERVING = "held", "serving"
"""The two stages, and the names of their two-towers."""

Fit = Callable[[Inputs, Recipe, Path], Mapping[str, Weights]]
"""Trains the two-towers of `Inputs.jobs`, resuming what it finds in the folder: `trainer.fit` on Ray."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Attributes:
    directory: of the bundle.
    cases, validation: figures of the offline path, ours and the baselines', and what they are of.
    seconds: part of the run → wall seconds.
    """

    directory: Path
    cases: Cases
    validation: tuple[Row, ...]
    seconds: Mapping[str, float]


@dataclass(slots=True)
class Clock:
    """Wall seconds of named parts; `begin` ends the part before it."""

    said: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    _part: str = ""
    _since: float = 0.0

    def begin(self, part: str) -> None:
        self.end()
        self.said(part)
        self._part, self._since = part, time.perf_counter()

    def end(self) -> None:
        if self._part:
            self.seconds[self._part] = time.perf_counter() - self._since
            self._part = ""


def train(
    home: Path, schema: FeatureSchema, inputs: str, recipe: Recipe, fit: Fit, said: Callable[[str], None]
) -> Trained:
    """Trains on `<home>/data` and writes a bundle into `<home>/bundles`.

    Args:
        inputs: digest of everything that goes in (`training.inputs`): names the folder of checkpoints, so
            that a run resumes exactly what it would have made.
        said: called with the name of each part as it begins.

    Raises:
        DataError: no data, too little of it, or another run on this home.
        CatalogueTooLargeError, TrainingFailed: as their names say.
    """
    clock = Clock(said)
    with _workspace(home / "training", inputs) as workspace:
        clock.begin("data")
        tables = Tables.read(home / "data")
        data = build(tables, schema, decide(tables.interactions, recipe.seen, recipe.disliked))
        cases = Cases.of(data, data.validation)
        older, newest = data.hold_out(recipe.hold)
        stages = {HELD: older, SERVING: data.train}
        jobs = _examples(data, stages, newest)
        clock.begin("linear models")
        linear = {stage: _linear(data, events, recipe) for stage, events in stages.items()}
        clock.begin("two-towers")
        given = two_tower_inputs(data, jobs)
        towers = fit(given, recipe, workspace)
        clock.begin("ranking lists")
        statistics = _statistics(data)
        models = {
            stage: BaseModels.of(_scorer(given, towers[stage]), *linear[stage], statistics)
            for stage in stages
        }
        lists = build_lists(models[HELD], data, newest, recipe)
        clock.begin("ranker")
        with _one_thread():
            ranker = fit_ranker(lists.ranking, seed=recipe.seed)
        blend = lists.fit_blend(recipe.quotas)
        clock.begin("validation")
        ours = OfflineRecommender(models[SERVING], blend, ranker, recipe)
        validation = evaluate((ours, Ease.fit(data), Popularity.fit(data)), cases)
        clock.begin("bundle")
        directory = write_bundle(
            home / "bundles",
            schema=schema,
            catalogue=data.catalogue,
            components=components(models[SERVING], blend, ranker),
            declaration=declaration(recipe),
            model_card=model_card(cases, tables.about, recipe, validation),
            manifest=_manifest(data, tables, recipe, inputs),
        )
        clock.end()
    return Trained(directory, cases, validation, clock.seconds)


def _examples(data: Dataset, stages: Mapping[str, Int64], newest: Int64) -> dict[str, Int64]:
    """What the two-tower of each stage learns from.

    Raises:
        DataError: a stage, or the ranker, which learns from `newest`, would have nothing.
    """
    examples = {stage: data.examples(events) for stage, events in stages.items()}
    if not all(map(len, (*examples.values(), newest))):
        raise DataError(
            "fewer than two users have two interactions beside the last two, which are kept for validation "
            "and test: nothing shows what goes with what; give longer histories"
        )
    return examples


def two_tower_inputs(data: Dataset, jobs: Mapping[str, Int64]) -> Inputs:
    """Of an item the tower reads what it is, not how it fares: statistics as of today would tell the network
    about its training events' future, and the ranker has them as of each event."""
    return Inputs(data.events.offsets, data.events.item_index, data.user_features, data.item_profiles, jobs)


def components(models: BaseModels, blend: Blend, ranker: AdditiveRanker) -> dict[str, Component]:
    """What a bundle holds, by the names that serving asks for."""
    return {
        "two_tower": models.two_tower.to_component(),
        "ease": models.linear["ease"].to_component(),
        "sequential": models.linear["sequential"].to_component(),
        "statistics": models.statistics.to_component(),
        "blend": blend.to_component(),
        "ranker": ranker.to_component(),
    }


def _linear(data: Dataset, events: Int64, recipe: Recipe) -> tuple[LinearItemModel, LinearItemModel]:
    known = data.subset(events)
    ease = fit_ease(known.offsets, known.item_index, data.n_items)
    sequential = fit_sequential(known.offsets, known.item_index, data.n_items)
    return (
        LinearItemModel.of(ease, recipe.ease_half_life),
        LinearItemModel.of(sequential, recipe.sequential_half_life),
    )


def _statistics(data: Dataset) -> ItemStatistics:
    """One for both stages: read at an event, it knows the days before it only."""
    known = data.subset(data.train)
    return ItemStatistics.from_events(known.item_index, known.value, known.timestamp, data.n_items)


def _scorer(given: Inputs, weights: Weights) -> TwoTowerScorer:
    tower = TwoTower(TwoTowerSettings(), given.item_features, given.user_features.shape[1])
    tower.load_state_dict(weights)
    return scorer(tower)


def _manifest(data: Dataset, tables: Tables, recipe: Recipe, inputs: str) -> Manifest:
    return Manifest(
        name=f"marquee-{tables.about.name}",
        version="",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data_window=data.window,
        data_licence=tables.about.licence,
        schema_fingerprint="",
        parent=None,
        seed=recipe.seed,
        files={},
        inputs=inputs,
        feedback=data.feedback,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps on a few hundred weights are too small to share: on two busy cores two threads took five times as
    long as one, waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _workspace(root: Path, inputs: str) -> Iterator[Path]:
    """The folder for these inputs' checkpoints. What other inputs left goes now, this one after success.

    Raises:
        DataError: another run holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another `marquee train` is at work in {root}: wait for it or stop it") from None
        workspace = root / inputs[:12]
        for stale in root.iterdir():
            if stale.is_dir() and stale != workspace:
                shutil.rmtree(stale, ignore_errors=True)
        yield workspace
        shutil.rmtree(workspace, ignore_errors=True)
