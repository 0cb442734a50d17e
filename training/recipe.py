"""A recipe: what is trained, and the pipelines that the bundle declares; read from YAML.

Every number of the default recipe stands once, in `default_recipe.yaml` beside this module. Does not belong
here: whether its kinds exist and take these options, which asks their classes (`training.recipe_check`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from training.registry import ESTIMATORS
from training.schedule import Schedule
from training.spec import Declaration, Hidden, Options, Role

DEFAULT = Path(__file__).with_name("default_recipe.yaml")


_BY = {"nearest": "two_tower", "popular": "popular"}
"""Kind of a source → what training retrieves for it; of kind `best` it is the option `by`."""


SplitName = Literal["leave_one_out", "temporal"]
"""Of `training.data.split.SPLITS`."""


class RecipeError(Exception):
    """A recipe that cannot be used: a line for each mistake, with its file and key."""


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _OfKind(BaseModel):
    """What a kind takes stands beside it; the kind's class refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = Field(min_length=1)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelRecipe(_OfKind):
    """Of one model, by its name in the bundle."""


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""Of a model, whose file has it, and of a stage, whose metrics have it."""


class StageRecipe(_OfKind):
    name: Name
    role: Role
    models: Mapping[str, str] = Field(default_factory=dict)
    requires: tuple[str, ...] = ()
    quota: NonNegativeInt | None = Field(None, description="of a source; items")


_DECLARED = {"name", "role", "kind", "models", "requires"}


class PipelineRecipe(_Recipe):
    stages: tuple[StageRecipe, ...]
    user: bool = True
    hidden: Hidden = "met"

    def of(self, role: Role) -> Iterable[StageRecipe]:
        return (stage for stage in self.stages if stage.role == role)

    def declared(self) -> dict[str, Any]:
        """As `training.spec.PipelineSpec` reads it."""
        stages = [{**stage.model_dump(include=_DECLARED), "options": stage.options} for stage in self.stages]
        return {"stages": stages, "user": self.user, "hidden": self.hidden}


class Pipelines(_Recipe):
    """What the HTTP endpoints ask for."""

    recommend: PipelineRecipe
    similar: PipelineRecipe
    rank: PipelineRecipe


class Recipe(_Recipe):
    """Attributes are explained in `default_recipe.yaml`."""

    seed: NonNegativeInt
    workers: PositiveInt
    gpu: bool
    split: SplitName
    seen: str
    disliked: str = Field(coerce_numbers_to_str=True)
    hold: PositiveInt
    lists: PositiveInt
    list_size: int = Field(ge=2)
    models: Mapping[Name, ModelRecipe]
    pipelines: Pipelines

    def with_options(self, model: str, **options: Any) -> Recipe:
        """The same with other parameters of one model."""
        changed = self.models[model].model_copy(update=options)
        return self.model_copy(update={"models": {**self.models, model: changed}})

    def with_limits(self, change: Callable[[str, int], int]) -> Recipe:
        """The same with other limits of the stages of `recommend`."""
        recommend = self.pipelines.recommend
        stages = tuple(
            stage.model_copy(update={"limit": change(stage.name, stage.options["limit"])})
            if "limit" in stage.options
            else stage
            for stage in recommend.stages
        )
        recommend = recommend.model_copy(update={"stages": stages})
        return self.model_copy(
            update={"pipelines": self.pipelines.model_copy(update={"recommend": recommend})}
        )

    def named(self, kind: str) -> str | None:
        """The first model of this kind."""
        return next((name for name, model in self.models.items() if model.kind == kind), None)

    def options(self, model: str) -> Any:
        """A model's parameters, as its kind has them. Raises ValidationError where they are none."""
        spec = self.models[model]
        takes: type[Options] = getattr(ESTIMATORS.find(spec.kind), "Settings", Options)
        return takes.model_validate(spec.options)

    @property
    def schedule(self) -> Schedule:
        """How the network is trained. Raises KeyError where the recipe has none."""
        network = self.options(self.named("two_tower") or "two_tower")
        return Schedule(seed=self.seed, workers=self.workers, gpu=self.gpu, **network.model_dump())

    @property
    def retrieved(self) -> dict[str, str]:
        """Source of `recommend` → what training retrieves for it (`training.models.retrieval.SOURCES`). Other
        sources run in serving alone."""
        return {
            stage.name: stage.options.get("by", "") if stage.kind == "best" else _BY[stage.kind]
            for stage in self._sources
            if stage.kind in ("best", *_BY)
        }

    @property
    def sizes(self) -> dict[str, int]:
        """What training retrieves → items at most."""
        limits = {stage.name: stage.options.get("limit", 0) for stage in self._sources}
        return {by: limits[name] for name, by in self.retrieved.items()}

    @property
    def quotas(self) -> dict[str, int]:
        """Source of `recommend` → its best that are always kept."""
        return {stage.name: stage.quota or 0 for stage in self._sources}

    @property
    def candidates(self) -> int:
        """Items that the blend of `recommend` keeps, quotas permitting. Raises KeyError where it has no
        limit."""
        [blender] = self.pipelines.recommend.of("blender")
        return int(blender.options["limit"])

    @property
    def _sources(self) -> tuple[StageRecipe, ...]:
        return tuple(self.pipelines.recommend.of("source"))

    def declaration(self, requires: Iterable[str] = ()) -> Declaration:
        """What a bundle made by it declares.

        Raises:
            ValidationError: a pipeline is not whole, or names a model that there is not.
        """
        return Declaration.model_validate(
            {
                "components": {name: {"kind": model.kind} for name, model in self.models.items()},
                "pipelines": {name: of.declared() for name, of in self.pipelines},
                "requires": tuple(requires),
            }
        )


def text_of(path: Path) -> str:
    """Raises RecipeError where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


@cache
def default() -> Recipe:
    """The recipe that ships."""
    return read(DEFAULT)


def read(path: Path) -> Recipe:
    """Raises RecipeError: no such file, no YAML, or no recipe."""
    try:
        given = yaml.safe_load(text_of(path))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    try:
        recipe = Recipe.model_validate(given)
        recipe.declaration()
    except ValidationError as error:
        raise RecipeError("\n".join(lines(path, error))) from error
    return recipe


def lines(path: Path, error: ValidationError, *within: str) -> Iterable[str]:
    """A line for each mistake: the file, the key and what is wrong there."""
    for each in error.errors():
        where = [str(path), ".".join(map(str, (*within, *each["loc"])))]
        yield ": ".join([*filter(None, where), each["msg"]])
