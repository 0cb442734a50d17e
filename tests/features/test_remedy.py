"""What is said to be done can be done where it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.prepare import PrepareError, prepare
from features.progress import silent
from features.remedy import RELEASE
from training.cli import _schema
from training.data.manifest import DataError, Manifest


def said(home: Path) -> list[str]:
    """Every message about a home without data."""
    with pytest.raises(PrepareError) as no_data:
        prepare(home, None, False, silent)
    with pytest.raises(DataError) as no_features:
        _schema(home)
    with pytest.raises(DataError) as no_manifest:
        Manifest.read(home / "data")
    return [str(caught.value) for caught in (no_data, no_features, no_manifest)]


def test_on_a_laptop_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RELEASE, raising=False)
    for message in said(tmp_path):
        assert "run `marquee data`" in message


def test_in_a_cluster_the_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RELEASE, "films")
    for message in said(tmp_path):
        assert "run `marquee data`" not in message
        assert "app.kubernetes.io/instance=films,app.kubernetes.io/component=bootstrap" in message
        assert "\n" not in message
