"""Kinds of models and stages → their classes: the built-in ones, and those of installed packages.

A package adds kinds by entry points (https://packaging.python.org/specifications/entry-points/) of the groups
`marquee.models` and `marquee.stages`; a built-in kind cannot be taken by another. A class is imported when it
is first asked for. The built-in kinds are named here and nowhere else in what serves.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from training.spec import Declaration


class UnknownKindError(Exception):
    """No built-in and no installed package has this kind, or it is of no use; the text says which."""


@dataclass(frozen=True)
class Registry:
    """Attributes:
    group: of entry points.
    built_in: kind → "module:Class".
    """

    group: str
    built_in: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        found = {point.name: point for point in entry_points(group=self.group)}
        return {kind: point for kind, point in found.items() if kind not in self.built_in}

    @property
    def kinds(self) -> tuple[str, ...]:
        """All there are."""
        return tuple(sorted({*self.built_in, *self._installed}))

    def find(self, kind: str) -> type[Any]:
        """The class of a kind.

        Raises:
            UnknownKindError: there is none, its package cannot be imported, or its class is none of a kind.
        """
        found: type[Any]
        if (place := self.built_in.get(kind)) is not None:
            module, _, name = place.partition(":")
            found = getattr(importlib.import_module(module), name)
        elif (point := self._installed.get(kind)) is not None:
            try:
                found = point.load()
            except (ImportError, AttributeError) as error:
                said = " ".join(str(error).split())
                package = self.provider(kind)
                raise UnknownKindError(f"{kind!r} of {package} cannot be imported ({said})") from error
        else:
            raise UnknownKindError(self.unknown(kind))
        if not isinstance(getattr(found, "MODELS", {}), Mapping):
            package = self.provider(kind)
            raise UnknownKindError(
                f"{kind!r} of {package}: MODELS is no mapping of names to what they must be"
            )
        return found

    def unknown(self, kind: str) -> str:
        """The line that says so."""
        return f"no package here has the kind {kind!r} of {self.group} (there are: {', '.join(self.kinds)})"

    def provider(self, kind: str) -> str | None:
        """The distribution that an installed kind comes from; None for a built-in one."""
        point = self._installed.get(kind)
        return None if point is None or point.dist is None else point.dist.name

    def requirement(self, kind: str) -> str | None:
        """The provider and its version here, as pip writes "this or later"; None for a built-in kind."""
        provider = self.provider(kind)
        return None if provider is None else f"{provider}>={version(provider)}"


MODELS = Registry(
    "marquee.models",
    {
        "two_tower": "training.models.two_tower.model:TwoTowerScorer",
        "ease": "training.models.neighbours:ItemToItem",
        "sequential": "training.models.neighbours:ItemToItem",
        "item_statistics": "training.models.statistics:ItemStatistics",
        "calibrated_blend": "training.models.blend:Blend",
        "additive": "training.models.ranker:AdditiveRanker",
        "dcn": "training.models.dcn.model:DcnRanker",
    },
)
"""Kinds of components. A class has `from_component(component)`, or, where it names a `NETWORK`,
`from_component(component, network)`; `MAKES`, the protocol of what that returns, where it is no object of the
class itself."""

ESTIMATORS = Registry(
    "marquee.models",
    {
        "two_tower": "training.fit.kinds:TwoTower",
        "ease": "training.fit.kinds:Ease",
        "sequential": "training.fit.kinds:Sequential",
        "item_statistics": "training.fit.kinds:Statistics",
        "calibrated_blend": "training.fit.kinds:CalibratedBlend",
        "additive": "training.fit.kinds:Additive",
        "dcn": "training.fit.kinds:Dcn",
    },
)
"""The same kinds, as they are fitted: a class has `Settings`, which a recipe gives, and `fit(data, events,
options) → Component`, or `fit_lists(lists, options, recipe)` where it learns from what base models retrieve
(`training.candidates.Lists`). Of another package one class does both."""

STAGES = Registry(
    "marquee.stages",
    {
        "best": "serving.retrieval.sources:ModelSource",
        "nearest": "serving.retrieval.sources:VectorSource",
        "popular": "serving.retrieval.sources:PopularSource",
        "similar_by_behaviour": "serving.retrieval.similar:SimilarByBehaviour",
        "similar_by_content": "serving.retrieval.similar:SimilarByContent",
        "named": "serving.retrieval.named:NamedItems",
        "calibrated": "serving.retrieval.blend:CalibratedBlender",
        "cascade": "serving.retrieval.blend:Cascade",
        "duplicate": "serving.filters:DuplicateFilter",
        "eligible": "serving.filters:EligibleFilter",
        "ranking_features": "serving.columns:RankingHydrator",
        "ranker": "serving.ranking.ranker:RankerScorer",
        "mmr": "serving.diversity.mmr:MMRSelector",
        "ranker_terms": "serving.explain.attribution:RankerExplainer",
    },
)
"""Kinds of stages. A class satisfies the protocol of its role (`serving.stages`) and has `build(spec, parts,
pipeline)`; `Settings` where it takes some, and `MODELS`: what it calls the models that it reads → what each
must be, a protocol or a class."""


def lacks(model: object, wanted: type[Any], *, made: bool) -> list[str]:
    """What a model, or the class of its kind, has not of what a stage needs it for.

    Args:
        wanted: a protocol, or a class, whose public names are needed.
        made: the model itself is given; of a class, which has no data yet, methods alone are asked.
    """
    kind = model if made else getattr(model, "MAKES", model)
    methods = {name for name in dir(wanted) if callable(getattr(wanted, name))}
    names = methods | {*getattr(wanted, "__annotations__", {})} if made else methods
    return sorted(name for name in names if not name.startswith("_") and not hasattr(kind, name))


def requirements(declaration: Declaration) -> tuple[str, ...]:
    """The packages that its kinds come from, in these versions or later."""
    return tuple(sorted({need for kind, group in _kinds(declaration) if (need := group.requirement(kind))}))


def lacking(declaration: Declaration) -> str | None:
    """What a process here lacks to serve it: a package, or a kind that none here has. None: nothing."""
    for written in declaration.requires:
        try:
            need = Requirement(written)
            here = version(need.name)
        except InvalidRequirement:
            return f"it requires {written!r}, which is no requirement"
        except PackageNotFoundError:
            return f"it requires {written}, which is not installed"
        if not need.specifier.contains(here, prereleases=True):
            return f"it requires {written}, and {need.name} {here} is installed"
    for kind, group in _kinds(declaration):
        if kind not in group.kinds:
            return group.unknown(kind)
    return None


def _kinds(declaration: Declaration) -> Iterator[tuple[str, Registry]]:
    for component in declaration.components.values():
        yield component.kind, MODELS
    for pipeline in declaration.pipelines.values():
        for stage in pipeline.stages:
            yield stage.kind, STAGES
