"""The list of a peer's environment has all that the pipeline imports there."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from loadtests.bench.peers.environments import ROOT, requirements

ENTRANCES = ("loadtests.bench.peers.host", "serving.runtime.onnx")
"""What a peer's worker imports, and the runtime of the default configuration, which is imported on demand."""


def path_of(module: str) -> Path | None:
    """The file of one of our modules."""
    place = ROOT.joinpath(*module.split("."))
    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    return found[0] if found else None


def imported(path: Path) -> Iterator[str]:
    """At module level; a name of a package may be a module of it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def third_parties() -> set[str]:
    """Top-level packages that are imported, directly or by modules of ours."""
    known, left, found = set(ENTRANCES), list(ENTRANCES), set[str]()
    while left:
        path = path_of(left.pop())
        assert path is not None
        for name in imported(path):
            if path_of(name) is None:
                found.add(name.partition(".")[0])
            elif name not in known:
                known.add(name)
                left.append(name)
    ours = {"features", "loadtests", "serving", "training"}
    return found - ours - set(sys.stdlib_module_names)


def test_bentomls_list_has_all_that_the_pipeline_imports() -> None:
    lines = requirements("bentoml").read_text(encoding="utf-8").lower().replace("_", "-").splitlines()
    listed = {line.partition("==")[0] for line in lines}
    packages = packages_distributions()
    needed = {name: [one.lower().replace("_", "-") for one in packages[name]] for name in third_parties()}
    assert "onnxruntime" in needed
    assert {name for name, of in needed.items() if not listed.intersection(of)} == set()
