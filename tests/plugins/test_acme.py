"""A package as docs/extending.md walks through it: installed, named by a recipe, trained and served."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import marquee
from training.bundle import BundleError, declared, read_bundle
from training.manifest import FILE_NAME
from training.recipe import DEFAULT

ROOT = Path(__file__).resolve().parents[2]
ACME = Path(__file__).with_name("acme")
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(text: str) -> str:
    """Those that say something, each from its first letter."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def with_what_the_page_adds(folder: Path) -> Path:
    """The recipe that ships, with the page's model, and its stages after those of their roles."""
    recipe = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    [added] = map(yaml.safe_load, blocks("yaml"))
    recipe["models"].update(added["models"])
    stages = recipe["pipelines"]["recommend"]["stages"]
    for stage in added["pipelines"]["recommend"]["stages"]:
        last = max(at for at, other in enumerate(stages) if other["role"] == stage["role"])
        stages.insert(last + 1, stage)
    recipe["models"]["two_tower"]["epochs"] = 1
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder / "recipe.yaml"


@dataclass(frozen=True)
class Environment:
    """A folder that acme is installed into, for processes whose path holds it; this one's does not."""

    packages: Path

    def run(self, module: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{self.packages}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3_000:]
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("acme")
    shutil.copytree(ACME, folder / "source")  # a build writes beside its sources
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run(
        [*pip, "--target", folder / "packages", folder / "source"], check=True, capture_output=True
    )
    return Environment(folder / "packages")


@pytest.fixture(scope="module")
def said(
    environment: Environment, bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What `tests.plugins.served` found, of the data that other tests train on."""
    home = tmp_path_factory.mktemp("plugins")
    shutil.copytree(bundle_dir.parents[1] / "data", home / "data")
    found: dict[str, Any] = json.loads(
        environment.run("tests.plugins.served", home, with_what_the_page_adds(home)).splitlines()[-1]
    )
    return found


@pytest.mark.parametrize("where", ["inline", "group"])
def test_its_source_and_its_filter_serve(said: dict[str, Any], where: str) -> None:
    usual, adults = said[where]
    assert usual["degraded"] == adults["degraded"] == []
    assert usual["picked"]
    assert {*usual["picked"], *adults["picked"]} <= {*said["picks"][:30]}
    assert not any("genre-3" in genres for genres in usual["genres"])
    assert any("genre-3" in genres for genres in adults["genres"])


def test_a_group_answers_as_the_ingress_does(said: dict[str, Any]) -> None:
    assert said["calls"] > 0
    assert said["group"] == said["inline"]


def test_the_bundle_names_kinds_and_the_package_and_no_import_path(said: dict[str, Any]) -> None:
    _, declaration = declared(said["directory"])
    assert declaration.requires == ("acme-stages>=1.2.0",)
    assert declaration.components["picks"].kind == "acme_picks"
    text = (Path(said["directory"]) / FILE_NAME).read_text(encoding="utf-8")
    assert "acme.stages" not in text
    assert "acme.picks" not in text


def test_where_the_package_is_not_installed_the_bundle_is_refused_by_its_name(said: dict[str, Any]) -> None:
    with pytest.raises(
        BundleError, match=re.escape("requires acme-stages>=1.2.0, which is not installed")
    ) as no:
        read_bundle(said["directory"])
    assert "\n" not in str(no.value)


def test_a_recipe_that_names_it_is_refused_by_its_kind_where_it_is_not(
    bundle_dir: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(bundle_dir.parents[1] / "data", home / "data")
    schema = read_bundle(str(bundle_dir)).schema.to_json()
    (home / "features").mkdir()
    (home / "features" / "schema.json").write_text(schema, encoding="utf-8")
    recipe = with_what_the_page_adds(tmp_path)
    result = CliRunner().invoke(
        marquee.build("train"), ["train", "--home", str(home), "--recipe", str(recipe)]
    )
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 3, lines  # the model, the source, the filter
    assert all("no package here has the kind 'acme_" in line for line in lines)
    assert f"{recipe}: models.picks.kind: " in lines[0]


@pytest.mark.parametrize("kind", ["python", "toml"])
def test_the_page_shows_the_files_as_they_are(kind: str) -> None:
    """But for how far they are indented."""
    suffix = ".py" if kind == "python" else ".toml"
    files = [lines(path.read_text(encoding="utf-8")) for path in ACME.rglob(f"*{suffix}")]
    shown = [lines(block) for block in blocks(kind)]
    assert shown
    assert [block for block in shown if not any(block in text for text in files)] == []
