"""What serves knows no kind by name: a new model or stage touches its own folder and a line of a recipe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.registry import MODELS, STAGES

SERVING = Path(__file__).resolve().parents[2] / "serving"
FAMILIES = tuple(place.partition(":")[0] for place in MODELS.built_in.values())
OWN = {f"{place.partition(':')[0].replace('.', '/')}.py" for place in STAGES.built_in.values()}
"""The modules of the built-in kinds themselves."""

HELPERS = {"serving/explain/reasons.py"}
"""What only one of them imports."""

CORE = sorted(
    path.relative_to(SERVING.parent).as_posix()
    for path in SERVING.rglob("*.py")
    if path.relative_to(SERVING.parent).as_posix() not in OWN | HELPERS
)
WORDS = {*MODELS.built_in, *STAGES.built_in} - {"popular", "eligible", "named", "mmr", "ranker"}
"""Kinds, without those that are words for something else: a tier, a mask, what a pipeline hides, what
diversity a request asks for, and what of a pipeline is lost."""


@pytest.mark.parametrize("file", CORE)
def test_no_file_of_the_core_names_a_family_or_a_kind(file: str) -> None:
    tree = ast.parse((SERVING.parent / file).read_text(encoding="utf-8"))
    families = (*FAMILIES, "training.models.two_tower")
    assert [name for name in imported(tree) if name.startswith(families)] == []
    assert sorted(set(texts(tree)) & WORDS) == []


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def texts(tree: ast.Module) -> Iterator[str]:
    """String constants, whole."""
    return (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_the_core_is_most_of_what_serves() -> None:
    assert {"serving/build.py", "serving/parts.py", "serving/engine.py", "serving/program.py"} <= set(CORE)
    assert len(OWN) <= 10
