"""What a bundle declares: its components by kind, and its pipelines as lists of stages by kind.

Kinds, never import paths: a bundle cannot load code (`training.registry`). Does not belong here: what a kind
is, and the numbers a training run is made with (`training.recipe`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Role = Literal["source", "blender", "filter", "hydrator", "scorer", "selector", "explainer"]

Hidden = Literal["met", "named", "nothing"]
"""Which items a pipeline never returns, beside those that a request excludes: those that the user has met
(or, where that may come again, disliked); those that the request names; none."""

METHODS: Mapping[Role, str] = {
    "source": "retrieve",
    "blender": "blend",
    "filter": "keep",
    "hydrator": "hydrate",
    "scorer": "score",
    "selector": "select",
    "explainer": "explain",
}
"""Role → what a stage of it does, by `serving.stages`."""

PIPELINES = ("recommend", "similar", "rank")
"""What the HTTP endpoints ask for."""

SEVERAL: frozenset[Role] = frozenset({"source", "filter", "hydrator"})
"""Roles that a pipeline may have several stages of; of the others, one at most."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(_Spec):
    """What a kind takes in a recipe; an option that it does not know is refused."""


class ComponentSpec(_Spec):
    kind: str = Field(min_length=1, description="of the model, as the registry names it")
    files: tuple[str, ...] = Field((), description="of the bundle; filled in when it is written")


class StageSpec(_Spec):
    name: str = Field(min_length=1, description="in answers, metrics and `degraded`; one of its role's")
    role: Role
    kind: str = Field(min_length=1, description="of the stage, as the registry names it")
    models: Mapping[str, str] = Field(
        default_factory=dict, description="what the stage calls a model → the bundle's component"
    )
    options: Mapping[str, Any] = Field(default_factory=dict, description="as the kind takes them")
    requires: tuple[str, ...] = Field((), description="columns that hydrators before it provide")


class PipelineSpec(_Spec):
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    user: bool = Field(True, description="whether what is known of the user is read first")
    hidden: Hidden = "met"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        roles = [stage.role for stage in self.stages]
        if "source" not in roles or "blender" not in roles:
            raise PydanticCustomError("no_source", "a pipeline needs a source and a blender")
        for role in set(roles) - SEVERAL:
            if roles.count(role) > 1:
                raise PydanticCustomError("two", "a pipeline has one {role} at most", {"role": role})
        named = [(stage.role, stage.name) for stage in self.stages]
        if len(set(named)) < len(named):
            raise PydanticCustomError("same_name", "two stages of a role have one name")
        return self

    def of(self, role: Role) -> Iterator[StageSpec]:
        """The stages of a role, in their order."""
        return (stage for stage in self.stages if stage.role == role)


class Declaration(_Spec):
    """What of a bundle is declared.

    Attributes:
        requires: distributions with the kinds that are not built in, as pip names them.
    """

    components: Mapping[str, ComponentSpec]
    pipelines: Mapping[str, PipelineSpec]
    requires: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, pipeline in self.pipelines.items():
            for stage in pipeline.stages:
                for component in stage.models.values():
                    if component not in self.components:
                        raise PydanticCustomError(
                            "no_component",
                            "stage {stage} of pipeline {pipeline} names component {component}, which is not "
                            "there",
                            {"stage": stage.name, "pipeline": name, "component": component},
                        )
        return self
