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
