"""A recipe is whole, or refused with a line for each mistake that names the file and the key."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import marquee
from training.models.ranking_features import NAMES
from training.models.retrieval import SOURCES
from training.recipe import DEFAULT, RecipeError, default, read
from training.recipe_check import check
from training.registry import requirements

SHIPPED: dict[str, Any] = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))


def written(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    recipe = copy.deepcopy(SHIPPED)
    change(recipe)
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


def mistakes(path: Path) -> list[str]:
    with pytest.raises(RecipeError) as refused:
        check(read(path), path)
    return str(refused.value).splitlines()


def test_the_recipe_that_ships_has_no_mistake_and_is_what_training_knows() -> None:
    recipe = default()
    check(recipe, DEFAULT)
    assert tuple(recipe.sizes) == tuple(recipe.quotas) == SOURCES
    assert recipe.sizes == {"two_tower": 200, "ease": 150, "sequential": 50, "popular": 50}
    assert recipe.candidates == 500
    [ranker] = recipe.pipelines.recommend.of("scorer")
    assert ranker.requires == NAMES
    assert requirements(recipe.declaration()) == ()


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(marquee.build("train"), ["train", "--show-recipe"])
    assert (result.exit_code, result.output) == (0, DEFAULT.read_text(encoding="utf-8"))


def stage(recipe: dict[str, Any], number: int, pipeline: str = "recommend") -> dict[str, Any]:
    found: dict[str, Any] = recipe["pipelines"][pipeline]["stages"][number]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("hold"), "hold: Field required"),
        (lambda r: r.update(sede=1), "sede: Extra inputs are not permitted"),
        (lambda r: r.update(workers=0), "workers: Input should be greater than 0"),
        (lambda r: r["pipelines"].pop("rank"), "pipelines.rank: Field required"),
        (lambda r: r["pipelines"].update(recomend={}), "pipelines.recomend: Extra inputs"),
        (lambda r: r["pipelines"]["similar"].update(hidden="some"), "similar.hidden: Input should be"),
        (lambda r: stage(r, 0).update(role="writer"), "pipelines.recommend.stages.0.role: Input should be"),
        (lambda r: r["pipelines"]["rank"]["stages"].pop(0), "pipelines.rank: a pipeline needs a source"),
        (lambda r: stage(r, 3).update(models={"statistics": "gone"}), "names component gone, which is not"),
        (lambda r: r["models"].update({"../a": {"kind": "ease"}}), "models.../a.[key]: String should match"),
        (lambda r: r["models"].update(catalogue={"kind": "ease"}), "a bundle's catalogue has this name"),
        (lambda r: stage(r, 3).update(name="a b"), "stages.3.name: String should match"),
        (lambda r: r["models"]["ease"].update(kind="magic"), "models.ease.kind: no package here has"),
        (lambda r: r["models"]["ease"].update(depth=3), "models.ease.depth: Extra inputs"),
        (lambda r: r["models"]["two_tower"].pop("epochs"), "models.two_tower.epochs: Field required"),
        (lambda r: r["models"].update(more={"kind": "item_statistics"}), "models.more: no stage of"),
        (lambda r: r["models"]["ease"].update(kind="sequential"), "no model is of kind ease"),
        (lambda r: stage(r, 3).update(kind="magic"), "stages.3.kind: no package here has the kind 'magic'"),
        (lambda r: stage(r, 3).update(limit=0), "stages.3.limit: Input should be greater than 0"),
        (lambda r: stage(r, 3).update(depth=3), "stages.3.depth: Extra inputs"),
        (lambda r: stage(r, 3).update(models={}), "stages.3.models: popular reads statistics;"),
        (lambda r: stage(r, 3)["models"].update(statistics="ease"), "statistics: ease, of kind ease, has"),
        (lambda r: stage(r, 8)["models"].update(ranker="blend"),
         "8.models.ranker: blend, of kind calibrated_blend, has no contributions, score, which ranker asks"),
        (lambda r: stage(r, 5).update(kind="mmr"), "stages.5.role: mmr is no filter"),
        (lambda r: stage(r, 1).update(by="two_tower"), "source ease retrieves by two_tower, and another"),
        (lambda r: stage(r, 1).update(by="magic"), "stages.1.by: Input should be 'two_tower'"),
        (lambda r: stage(r, 0, "similar").update(quota=5), "similar.stages.0.quota: only a source has one"),
        (lambda r: stage(r, 8).update(requires=["charm"]), "8.requires: no stage before it provides charm"),
        (lambda r: stage(r, 8).update(requires=["age"]), "stages.8.requires: ranker reads two_tower"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_with_file_and_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    file = written(tmp_path, change)
    lines = mistakes(file)
    assert all(line.startswith(f"{file}: ") for line in lines)
    assert any(said in line for line in lines), lines


def test_each_of_several_mistakes_is_said(tmp_path: Path) -> None:
    def two(recipe: dict[str, Any]) -> None:
        recipe["models"]["ease"]["depth"] = 3
        stage(recipe, 3)["limit"] = 0

    assert len(mistakes(written(tmp_path, two))) == 2


@pytest.mark.parametrize("text", ["a: [", "\t", "- 1", "3", "", "models: {a: {kind: }}"])
def test_what_is_no_recipe_is_refused_in_lines(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert all(line.startswith(f"{file}: ") for line in mistakes(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "none.yaml") == [
        f"{tmp_path}/none.yaml: cannot be read ([Errno 2] No such file or directory: '{tmp_path}/none.yaml')"
    ]
