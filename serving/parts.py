"""What the stages of one bundle are made from: its catalogue, its models, what may be shown.

A model is read when the first stage asks for it, once for all stages. Does not belong here: which stages
there are (`serving.build`).
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.eligibility import Eligibility
from serving.expressions import CatalogueFilter
from serving.runtime.protocol import Runtime
from training.bundle import Bundle, BundleError
from training.models.scores import BaseModels
from training.registry import MODELS
from training.spec import StageSpec

O = TypeVar("O", bound="Options")  # noqa: E741 - a type


class Options(BaseModel):
    """What a kind of stage takes; an option that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls: type[O], spec: StageSpec) -> O:
        """Raises BundleError where the stage's options are none."""
        try:
            return cls.model_validate(dict(spec.options))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BundleError(f"stage {spec.name!r}: option {where}: {first['msg']}; train again") from error


class Parts:
    """Of one bundle."""

    def __init__(self, bundle: Bundle, networks: Runtime) -> None:
        """Args:
        networks: computes the models' networks.
        """
        self.catalogue, self.feedback = bundle.catalogue, bundle.manifest.feedback
        self.rules = CatalogueFilter(bundle.catalogue)
        self.eligibility = Eligibility(self.rules)
        self._bundle, self._networks = bundle, networks
        self._models: dict[str, Any] = {}
        self._base: dict[tuple[str, ...], BaseModels] = {}

    def model(self, spec: StageSpec, name: str) -> Any:
        """The model that the stage calls so.

        Raises:
            BundleError: the stage or the bundle has none.
        """
        if name not in spec.models:
            raise BundleError(f"stage {spec.name!r} of kind {spec.kind} names no model {name!r}; train again")
        component = spec.models[name]
        if component not in self._models:
            self._models[component] = self._load(component)
        return self._models[component]

    def base(self, spec: StageSpec) -> BaseModels:
        """The base models that the stage names, the same object for all that name the same."""
        names = ("two_tower", "ease", "sequential", "statistics")
        key = tuple(spec.models.get(name, "") for name in names)
        if key not in self._base:
            self._base[key] = BaseModels.of(*(self.model(spec, name) for name in names))
        return self._base[key]

    def _load(self, component: str) -> Any:
        stored = self._bundle.component(component)
        kind = MODELS.find(self._bundle.declaration.components[component].kind)
        if (module := getattr(kind, "NETWORK", None)) is None:
            return kind.from_component(stored)
        version = self._bundle.manifest.version
        return kind.from_component(stored, self._networks.network(stored, component, version, module))
