"""What a recipe asks of the kinds it names, asked of their classes before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from training.manifest import CATALOGUE
from training.recipe import Recipe, RecipeError, StageRecipe, lines
from training.registry import ESTIMATORS, MODELS, STAGES, Registry, UnknownKindError, lacks
from training.spec import METHODS, Options

BASE = {
    "two_tower": "two_tower",
    "ease": "ease",
    "sequential": "sequential",
    "statistics": "item_statistics",
}
"""The base models → their kinds: what ranking lists are made of, and so what is learned from them."""

BLEND = "calibrated_blend"

ONCE = (*BASE.values(), BLEND)
"""Kinds of which a recipe has one model at most: training has one of each at hand."""

QUOTAS = "calibrated"
"""The kind of blender that keeps quotas."""


def from_lists(kind: str) -> bool:
    """Whether a kind learns from ranking lists. Raises UnknownKindError."""
    return hasattr(ESTIMATORS.find(kind), "fit_lists")


def check(recipe: Recipe, path: Path) -> None:
    """Raises RecipeError: a line for each mistake."""
    if mistakes := [*_models(recipe, path), *_stages(recipe, path)]:
        raise RecipeError("\n".join(mistakes))


def _models(recipe: Recipe, path: Path) -> Iterator[str]:
    named = {model for _, of in recipe.pipelines for stage in of.stages for model in stage.models.values()}
    kinds = [model.kind for model in recipe.models.values()]
    for name, model in recipe.models.items():
        key = f"models.{name}"
        if name == CATALOGUE:
            yield f"{path}: {key}: a bundle's catalogue has this name"
        if name not in named:
            yield f"{path}: {key}: no stage of a pipeline names it"
        if model.kind in ONCE and kinds.count(model.kind) > 1:
            yield f"{path}: {key}.kind: two models are of kind {model.kind}, one may be"
        try:
            MODELS.find(model.kind)
            if from_lists(model.kind) and (lacking := sorted(set(BASE.values()) - set(kinds))):
                yield (
                    f"{path}: {key}.kind: {model.kind} learns from what base models retrieve, and no model "
                    f"is of kind {', '.join(lacking)}"
                )
            yield from _options(ESTIMATORS, model.kind, model.options, path, key)
        except UnknownKindError as error:
            yield f"{path}: {key}.kind: {error}"


def _stages(recipe: Recipe, path: Path) -> Iterator[str]:
    by = [*recipe.retrieved.values()]
    for name, one in recipe.retrieved.items():
        if by.count(one) > 1:
            yield f"{path}: pipelines.recommend: source {name} retrieves by {one}, and another one does, too"
    for name, pipeline in recipe.pipelines:
        quotas = any(stage.kind == QUOTAS for stage in pipeline.of("blender"))
        provided: set[str] = set()
        for number, stage in enumerate(pipeline.stages):
            key = f"pipelines.{name}.stages.{number}"
            try:
                yield from _stage(stage, provided, path, key)
                yield from _read(recipe, stage, path, key)
                provided.update(getattr(STAGES.find(stage.kind), "PROVIDES", ()))
            except UnknownKindError as error:
                yield f"{path}: {key}.kind: {error}"
            if stage.quota is not None and (stage.role != "source" or not quotas):
                yield f"{path}: {key}.quota: only a source has one, whose blender is of kind {QUOTAS}"


def _stage(stage: StageRecipe, provided: set[str], path: Path, key: str) -> Iterator[str]:
    kind = STAGES.find(stage.kind)
    if not hasattr(kind, METHODS[stage.role]):
        yield f"{path}: {key}.role: {stage.kind} is no {stage.role}"
    reads = set(getattr(kind, "MODELS", ()))
    if (given := set(stage.models)) != reads:
        asked = ", ".join(sorted(reads)) or "none"
        names = ", ".join(sorted(given)) or "none"
        yield f"{path}: {key}.models: {stage.kind} reads {asked}; named are {names}"
    if lacking := sorted(set(stage.requires) - provided):
        yield f"{path}: {key}.requires: no stage before it provides {', '.join(lacking)}"
    if (columns := getattr(kind, "REQUIRES", None)) and set(columns) != set(stage.requires):
        yield f"{path}: {key}.requires: {stage.kind} reads {', '.join(columns)}"
    yield from _options(STAGES, stage.kind, stage.options, path, key)


def _read(recipe: Recipe, stage: StageRecipe, path: Path, key: str) -> Iterator[str]:
    """Whether the models that it names can do what its kind asks of them."""
    wanted = getattr(STAGES.find(stage.kind), "MODELS", {})
    for called, name in stage.models.items():
        kind = recipe.models[name].kind
        if called not in wanted or kind not in MODELS.kinds:
            continue
        if missing := lacks(MODELS.find(kind), wanted[called], made=False):
            yield (
                f"{path}: {key}.models.{called}: {name}, of kind {kind}, has no {', '.join(missing)}, which "
                f"{stage.kind} asks for"
            )


def _options(registry: Registry, kind: str, given: Mapping[str, Any], path: Path, key: str) -> Iterator[str]:
    options: type[BaseModel] = getattr(registry.find(kind), "Settings", Options)
    try:
        options.model_validate(dict(given))
    except ValidationError as error:
        yield from lines(path, error, key)
