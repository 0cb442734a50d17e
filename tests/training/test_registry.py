"""Kinds are found by name: built in, or of an installed package; never by an import path."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, version
from types import SimpleNamespace

import pytest

from training import registry
from training.recipe import default
from training.registry import ESTIMATORS, MODELS, STAGES, Registry, UnknownKindError, lacking
from training.spec import ComponentSpec, Options


class Odd:
    MODELS = ("two_tower",)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds a kind, and one that would take a built-in one."""
    points = [
        EntryPoint("ours", "collections:OrderedDict", "marquee.tests"),
        EntryPoint("built", "collections:Counter", "marquee.tests"),
        EntryPoint("odd", f"{__name__}:Odd", "marquee.odd"),
    ]
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Odd=Odd))
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point for point in points if point.group == group]
    )


@pytest.mark.usefixtures("installed")
def test_a_package_adds_kinds_and_takes_none() -> None:
    found = Registry("marquee.tests", {"built": "fractions:Fraction"})
    assert found.kinds == ("built", "ours")
    assert found.find("ours").__name__ == "OrderedDict"
    assert found.find("built").__name__ == "Fraction"
    assert found.provider("built") is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["nonsense", "os:system", "collections:OrderedDict", ""])
def test_another_kind_is_refused_with_those_that_there_are(kind: str) -> None:
    with pytest.raises(UnknownKindError, match="there are: built, ours"):
        Registry("marquee.tests", {"built": "fractions:Fraction"}).find(kind)


@pytest.mark.usefixtures("installed")
def test_a_stage_whose_models_are_no_mapping_is_refused_by_name() -> None:
    with pytest.raises(UnknownKindError, match=r"'odd' of None: MODELS is no mapping"):
        Registry("marquee.odd").find("odd")


@pytest.mark.parametrize("kind", MODELS.kinds)
def test_a_model_is_read_from_its_component(kind: str) -> None:
    assert callable(MODELS.find(kind).from_component)


@pytest.mark.parametrize("kind", STAGES.kinds)
def test_a_stage_is_built_and_says_by_its_class_whom_it_is_for(kind: str) -> None:
    found = STAGES.find(kind)
    assert callable(found.build)
    assert any(hasattr(found, method) for method in ("takes", "blend"))


@pytest.mark.parametrize("kind", ESTIMATORS.kinds)
def test_every_kind_of_model_says_how_it_is_fitted_and_read(kind: str) -> None:
    assert kind in MODELS.kinds
    assert issubclass(getattr(ESTIMATORS.find(kind), "Settings", Options), Options)


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ((), None),
        (("numpy>=1",), None),
        (("acme-nothing>=1.2",), "requires acme-nothing>=1.2, which is not installed"),
        (("numpy>=99",), f"requires numpy>=99, and numpy {version('numpy')} is installed"),
        (("os; system",), "'os; system', which is no requirement"),
    ],
)
def test_a_package_that_is_not_there_is_named(requires: tuple[str, ...], said: str | None) -> None:
    missing = lacking(default().declaration(requires))
    assert missing is None if said is None else missing is not None and said in missing


def test_a_kind_that_is_not_there_is_named() -> None:
    declaration = default().declaration()
    components = {**declaration.components, "ease": ComponentSpec(kind="quantum")}
    missing = lacking(declaration.model_copy(update={"components": components}))
    assert missing is not None
    assert missing.startswith("no package here has the kind 'quantum' of marquee.models")
