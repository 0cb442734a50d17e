from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from marquee import build
from training.triton_repository import MODEL, model_version


def test_a_bundles_networks_are_added_to_a_repository(bundle_dir: Path, tmp_path: Path) -> None:
    home = str(bundle_dir.parents[1])
    result = CliRunner().invoke(
        build("bundle"), ["bundle", "export-triton", str(tmp_path / "models"), "--home", home]
    )
    assert result.exit_code == 0, result.output
    version = model_version(bundle_dir.name)
    assert f"bundle {bundle_dir.name} is version {version} of two_tower" in result.stdout
    assert (tmp_path / "models" / "two_tower" / version / MODEL).is_file()


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(build("bundle"), ["bundle", "export-triton", "x", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "no bundle in" in result.stderr


def test_what_a_bundle_is_made_of_is_shown(bundle_dir: Path) -> None:
    result = CliRunner().invoke(
        build("bundle"), ["bundle", "show", "--bundle", str(bundle_dir)], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    for named in (bundle_dir.name, "two_tower.onnx", "Pipeline recommend", "ranker_terms", "limit 150"):
        assert named in result.stdout
    assert "requires: nothing beside marquee" in result.stdout


def test_a_bundle_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(build("bundle"), ["bundle", "show", "--bundle", str(tmp_path)])
    assert result.exit_code == 1
    assert "manifest.json is missing" in result.stderr
