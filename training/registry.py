"""Kinds of models and stages → their classes: the built-in ones, and those of installed packages.

A package adds kinds by entry points (https://packaging.python.org/specifications/entry-points/) of the groups
`marquee.models` and `marquee.stages`; a built-in kind cannot be taken by another. A class is imported when it
is first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class UnknownKindError(Exception):
    """No built-in and no installed package has this kind; the text names those that there are."""


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
            UnknownKindError: there is none.
        """
        found: type[Any]
        if (place := self.built_in.get(kind)) is not None:
            module, _, name = place.partition(":")
            found = getattr(importlib.import_module(module), name)
        elif (point := self._installed.get(kind)) is not None:
            found = point.load()
        else:
            known = ", ".join(self.kinds)
            raise UnknownKindError(
                f"no package here has the kind {kind!r} of {self.group} (there are: {known}); install the "
                "one that the bundle requires"
            )
        return found

    def provider(self, kind: str) -> str | None:
        """The distribution that an installed kind comes from; None for a built-in one."""
        point = self._installed.get(kind)
        return None if point is None or point.dist is None else point.dist.name


MODELS = Registry(
    "marquee.models",
    {
        "two_tower": "training.models.two_tower.model:TwoTowerScorer",
        "linear": "training.models.linear:LinearItemModel",
        "item_statistics": "training.models.statistics:ItemStatistics",
        "calibrated_blend": "training.models.blend:Blend",
        "additive": "training.models.ranker:AdditiveRanker",
    },
)
"""Kinds of components. A class has `from_component(component)`, or, where it names a `NETWORK`,
`from_component(component, network)`; and `to_component()`."""
