"""What `marquee serve` says when it answers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.cli import banner, somebody_known
from serving.settings import Settings
from training.data.prepare import Request, prepare

ids = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=ids)
def test_a_server_of_ones_own_data_names_somebody_it_knows(tmp_path: Path, user: str) -> None:
    """Pasted into a shell, both lines ask for a user of these tables, whatever its id."""
    home, folder = tmp_path / "home", tmp_path / "shop"
    folder.mkdir(exist_ok=True)
    cell = user.replace('"', '""')
    (folder / "interactions.csv").write_text(f'user_id,item_id\n"{cell}",a\nother,b\n', encoding="utf-8")
    prepare(Request(path=folder), home, force=True)
    known = somebody_known(home / "data")
    assert known == user
    lines = banner("http://127.0.0.1:9", Settings(port=9), known).splitlines()
    [curl] = [line for line in lines if line.startswith("  curl")]
    [recommend] = [line for line in lines if line.startswith("  marquee recommend")]
    assert json.loads(shlex.split(curl)[-1])["user_id"] == user
    assert shlex.split(recommend)[-1] == user


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_without_tables_nobody_is_known(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "interactions.parquet").write_bytes(content)
    assert somebody_known(tmp_path) is None
