"""`marquee bootstrap` is killed at every step, run again each time, and ends as if nothing had happened: one
whole bundle in the store, made once; a half one was never to be seen there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.data.synthetic import synthesize
from training.manifest import FILE_NAME, Manifest

STEPS = ("data", "features", "train", "evaluate", "publish")
END_S = 900
"""Seconds after which a run counts as hanging: it trains a small world."""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A team's own tables."""
    import pyarrow.parquet as pq

    made, folder = synthesize(100, 80, 2_000, seed=3), tmp_path / "tables"
    folder.mkdir()
    for name, table in (
        ("interactions", made.interactions),
        ("items", made.items),
        ("users", made.users),
    ):
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


class Run:
    """One `marquee bootstrap`, its lines as they come."""

    def __init__(self, home: Path, tables: Path, store: Path) -> None:
        command = [sys.executable, "-m", "marquee", "bootstrap", "--publish", str(store)]
        env = os.environ | {"MARQUEE_HOME": str(home), "DATASET_PATH": str(tables), "NO_COLOR": "1"}
        env.pop("REDIS_URL", None)
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._watchdog = threading.Timer(END_S, self.process.kill)
        self._watchdog.start()

    def kill_at(self, step: str) -> bool:
        """SIGKILL when it says that this step begins; False where it ended before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("bootstrap: step") and line.rstrip().endswith(f": {step}"):
                self.process.send_signal(signal.SIGKILL)
                self._end()
                return True
        self._end()
        return False

    def end(self) -> int:
        assert self.process.stdout is not None
        self.lines += self.process.stdout
        return self._end()

    def _end(self) -> int:
        code = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._watchdog.cancel()
        return code


def whole(store: Path) -> list[str]:
    """Versions of the bundles that a replica would find; each is checked against its manifest."""
    found = []
    for manifest in store.glob(f"*/{FILE_NAME}"):
        said = Manifest.from_json(manifest.read_text(), str(manifest.parent))
        said.check_files(manifest.parent)
        found.append(said.version)
    return found


@pytest.mark.slow
def test_killed_at_every_step_it_ends_as_if_undisturbed(tmp_path: Path, tables: Path) -> None:
    home, store = tmp_path / "home", tmp_path / "store"
    for step in STEPS:
        run = Run(home, tables, store)
        assert run.kill_at(step), "".join(run.lines)
        assert len(whole(store)) <= 1
    last = Run(home, tables, store)
    assert last.end() == 0, "".join(last.lines)
    [version] = whole(store)
    assert [path.name for path in (home / "bundles").iterdir() if path.is_dir()] == [version]
    again = Run(home, tables, store)
    assert again.end() == 0, "".join(again.lines)
    assert whole(store) == [version]
    said = "".join(again.lines)
    for reused in ("already there", "up to date in", "is up to date", "is evaluated already"):
        assert reused in said, said
