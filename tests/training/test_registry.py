"""Kinds are found by name: built in, or of an installed package; never by an import path."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from serving.kinds import STAGES
from training import registry
from training.registry import MODELS, Registry, UnknownKindError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds a kind, and one that would take a built-in one."""
    points = [
        EntryPoint("ours", "collections:OrderedDict", "marquee.tests"),
        EntryPoint("built", "collections:Counter", "marquee.tests"),
    ]
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


@pytest.mark.parametrize("kind", MODELS.kinds)
def test_a_model_is_read_from_its_component(kind: str) -> None:
    assert callable(MODELS.find(kind).from_component)


@pytest.mark.parametrize("kind", STAGES.kinds)
def test_a_stage_is_built_and_says_by_its_class_whom_it_is_for(kind: str) -> None:
    found = STAGES.find(kind)
    assert callable(found.build)
    assert any(hasattr(found, method) for method in ("takes", "blend"))
