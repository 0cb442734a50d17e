"""What the stages of one bundle are made from: its catalogue, its models, what may be shown.

A model is read when the first stage asks for it, once for all stages. Does not belong here: which stages
there are (`serving.build`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from pydantic import ValidationError

from serving.eligibility import Eligibility
from serving.expressions import CatalogueFilter
from serving.runtime.protocol import Runtime
from training import spec
from training.bundle import Bundle, BundleError
from training.registry import MODELS, STAGES, lacks
from training.spec import StageSpec

T = TypeVar("T")
O = TypeVar("O", bound="Options")  # noqa: E741 - a type


class Options(spec.Options):
    """What a kind of stage takes; an option that it does not know is refused."""

    @classmethod
    def of(cls: type[O], stage: StageSpec) -> O:
        """Raises BundleError where the stage's options are none."""
        try:
            return cls.model_validate(dict(stage.options))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BundleError(f"stage {stage.name!r}: option {where}: {first['msg']}; train again") from error


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
        self._made: dict[Hashable, Any] = {}

    def model(self, stage: StageSpec, name: str) -> Any:
        """The model that the stage calls so.

        Raises:
            BundleError: the stage or the bundle has none, or it is not what the stage's kind needs.
        """
        if name not in stage.models:
            raise BundleError(
                f"stage {stage.name!r} of kind {stage.kind} names no model {name!r}; train again"
            )
        component = stage.models[name]
        model = self.once(("model", component), lambda: self._load(component))
        wanted = STAGES.find(stage.kind).MODELS[name]
        if missing := lacks(model, wanted, made=True):
            raise BundleError(
                f"stage {stage.name!r} of kind {stage.kind}: model {component!r} has no "
                f"{', '.join(missing)}; name another one in the recipe, and train again"
            )
        return model

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several stages of the bundle share, made by the first that asks."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def _load(self, component: str) -> Any:
        stored = self._bundle.component(component)
        kind = MODELS.find(self._bundle.declaration.components[component].kind)
        if (module := getattr(kind, "NETWORK", None)) is None:
            return kind.from_component(stored)
        version = self._bundle.manifest.version
        return kind.from_component(stored, self._networks.network(stored, component, version, module))
