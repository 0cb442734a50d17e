"""The benchmarks run in their quick form and write what they found. Nothing here looks at a figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("peers", "layers", "retrieval", "features", "scale", "gpu")
LIMIT_S = 1_800
"""Seconds after which it counts as hanging."""


def test_the_quick_form_runs_and_writes_every_section(home: Path, tmp_path: Path) -> None:
    named = [argument for suite in SUITES for argument in ("--only", suite)]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.bench", "--quick", "--home", home, "--out", tmp_path, *named],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "performance.json").read_text())["sections"]
    assert [entry["section"]["name"] for entry in written] == list(SUITES)
    for entry in written:
        assert entry["quick"]
        assert entry["section"]["skipped"] or all(table["rows"] for table in entry["section"]["tables"])
        assert entry["section"]["skipped"] or entry["section"]["tables"]
    page = (tmp_path / "performance.md").read_text()
    for entry in written:
        assert f"## {entry['section']['title']}" in page
