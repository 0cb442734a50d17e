"""Every model of a recipe, fitted on one data set in the order in which they need each other.

1. What learns from events, a kind of another package included.
2. Two-towers, on Ray; of base models also ones without each user's newest training events ("held").
3. From lists of what the held ones retrieve there: the ranker, and the calibration of the sources.

The served base models ("serving") are fitted from scratch on all training events, not trained further: scores
of a network trained further are distributed otherwise than those the ranker learned to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.bundle import Component
from training.candidates import Lists, build_lists
from training.data.manifest import DataError
from training.dataset import Dataset
from training.loop import Inputs, Weights
from training.models.ann import APPROXIMATE_FROM, SAMPLE
from training.models.arrays import Int64
from training.models.scores import BaseModels
from training.models.two_tower.estimator import scorer
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings
from training.offline import OfflineRecommender
from training.recipe import Recipe
from training.recipe_check import from_lists
from training.registry import ESTIMATORS, MODELS

HELD, SERVING = "held", "serving"
"""The two stages, and the names of their two-towers."""

REFITTED = ("ease", "sequential")
"""Kinds that the ranker must read as of models which have not seen its events. Statistics are as of the day
before an event in any case."""

OFFLINE = {"nearest", "best", "popular", "calibrated", "duplicate", "eligible"}
OFFLINE |= {"ranking_features", "ranker", "mmr", "ranker_terms"}
"""Kinds of stages whose arithmetic `training.offline` has."""

Towers = Callable[[Inputs], Mapping[str, Weights]]
"""Trains the two-towers of `Inputs.jobs`."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Attributes:
    components: of every model of the recipe.
    offline: the pipeline `recommend` without serving; None where only serving has some stage of it.
    """

    components: Mapping[str, Component]
    offline: OfflineRecommender | None


def fit_models(data: Dataset, recipe: Recipe, towers: Towers, begin: Callable[[str], None]) -> Fitted:
    """Args:
    begin: called with the name of each part as it begins.

    Raises:
        DataError: there is nothing to learn from, or a kind of another package cannot be fitted.
    """
    begin("models of events")
    of_events = [name for name, of in recipe.models.items() if hasattr(ESTIMATORS.find(of.kind), "fit")]
    made = {name: _fitted(name, recipe, data, data.train) for name in of_events}
    older, newest = data.hold_out(recipe.hold)
    of_lists = [name for name, of in recipe.models.items() if from_lists(of.kind)]
    stages = {HELD: older, SERVING: data.train} if of_lists else {SERVING: data.train}
    tower = recipe.named("two_tower")
    if tower is None:
        return Fitted(made, None)
    begin("two-towers")
    given = two_tower_inputs(data, _examples(data, stages, newest))
    weights = towers(given)
    trained = {stage: _indexed(_scorer(given, weights[stage]), data, newest) for stage in stages}
    made[tower] = trained[SERVING].to_component()
    if not of_lists:
        return Fitted(made, None)
    begin("ranking lists")
    refitted = {
        name: _fitted(name, recipe, data, older) for name in of_events if recipe.models[name].kind in REFITTED
    }
    lists = build_lists(_base(recipe, trained[HELD], {**made, **refitted}), data, newest, recipe)
    begin("ranker")
    with _one_thread():
        learned = {name: _learned(name, recipe, lists) for name in of_lists}
    made |= {name: model.to_component() for name, model in learned.items()}
    recommend = recipe.pipelines.recommend
    kinds = {stage.kind for stage in recommend.stages}
    if not {"calibrated", "ranker"} <= kinds <= OFFLINE:
        return Fitted(made, None)
    [blender], [scorer] = recommend.of("blender"), recommend.of("scorer")
    blend, ranker = learned[blender.models["blend"]], learned[scorer.models["ranker"]]
    return Fitted(made, OfflineRecommender(_base(recipe, trained[SERVING], made), blend, ranker, recipe))


def two_tower_inputs(data: Dataset, jobs: Mapping[str, Int64]) -> Inputs:
    """Of an item the tower reads what it is, not how it fares: statistics as of today would tell the network
    about its training events' future, and the ranker has them as of each event."""
    return Inputs(data.events.offsets, data.events.item_index, data.user_features, data.item_profiles, jobs)


def _fitted(name: str, recipe: Recipe, data: Dataset, events: Int64) -> Component:
    with _of_its_package(name, recipe):
        made: Component = _estimator(name, recipe).fit(data, events, recipe.options(name))
    return made


def _learned(name: str, recipe: Recipe, lists: Lists) -> Any:
    """The model itself: `to_component` gives what is stored of it."""
    with _of_its_package(name, recipe):
        return _estimator(name, recipe).fit_lists(lists, recipe.options(name), recipe)


def _estimator(name: str, recipe: Recipe) -> type[Any]:
    return ESTIMATORS.find(recipe.models[name].kind)


@contextmanager
def _of_its_package(name: str, recipe: Recipe) -> Iterator[None]:
    """What goes wrong in a fit of another package is named as that package's."""
    kind = recipe.models[name].kind
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if (provider := ESTIMATORS.provider(kind)) is None:
            raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"model {name}: {kind} of {provider} cannot be fitted ({why})") from error


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


def _base(recipe: Recipe, tower: TwoTowerScorer, made: Mapping[str, Component]) -> BaseModels:
    kinds = ("ease", "sequential", "item_statistics")
    components = {kind: made[name] for kind in kinds if (name := recipe.named(kind))}
    return BaseModels.of(tower, *(MODELS.find(kind).from_component(components[kind]) for kind in kinds))


def _scorer(given: Inputs, weights: Weights) -> TwoTowerScorer:
    tower = TwoTower(TwoTowerSettings(), given.item_features, given.user_features.shape[1])
    tower.load_state_dict(weights)
    return scorer(tower)


def _indexed(scorer: TwoTowerScorer, data: Dataset, events: Int64) -> TwoTowerScorer:
    """With an ANN where the catalogue is large, its recall measured with users as of some of the events."""
    if data.n_items < APPROXIMATE_FROM:
        return scorer
    some = np.random.default_rng(0).permutation(events)[:SAMPLE]
    return scorer.indexed(scorer.user_vectors(data.histories(some), data.user_features[some]))


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
