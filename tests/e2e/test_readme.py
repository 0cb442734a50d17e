"""The README is true: its commands run, its answer has the shape of a real one, its tables say what the code
says. `make serve` runs here as for a new user, on the real data, and must reach the stated quality."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.config import ServeConfig
from serving.local.ports import free_block
from serving.settings import Settings
from tests.chart.test_commands import wrong

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START_S, STOP_S = 1_800, 60
"""Seconds after which a start or a stop counts as hanging."""
TRIES = 5


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def block_with(language: str, text: str) -> str:
    [found] = [block for block in blocks(language) if text in block]
    return found


@dataclass(frozen=True)
class Served:
    """A `make serve` that is up."""

    home: Path
    port: int
    process: subprocess.Popen[str]
    said: str

    def shell(self, command: str) -> str:
        """What the README's command prints, asked of this server."""
        environment = {
            **_environment(self.home, self.port),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        }
        done = subprocess.run(
            command.replace(":8000", f":{self.port}"),
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("marquee"), free_block()[0]
    with subprocess.Popen(
        ["make", "serve", f"VENV={sys.prefix}"],
        cwd=ROOT,
        env=_environment(home, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        watchdog = threading.Timer(START_S, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            said = _until(process, "Stop with")
            watchdog.cancel()
            yield Served(home, port, process, said)
        finally:
            watchdog.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_make_serve_ends_with_the_url_a_curl_and_how_to_stop(served: Served) -> None:
    assert f"http://127.0.0.1:{served.port}" in served.said
    assert "curl " in served.said


def test_the_served_pipeline_reaches_the_stated_quality(served: Served) -> None:
    version = (served.home / "bundles" / "LATEST").read_text().strip()
    metrics = json.loads((served.home / "bundles" / version / "manifest.json").read_text())["metrics"]
    assert metrics["marquee"]["ndcg@10"] >= 0.090
    assert metrics["marquee"]["recall@10"] >= 0.165
    for baseline in ("popularity", "EASE"):
        assert metrics[baseline]["ndcg@10"] < metrics["marquee"]["ndcg@10"]
    # The baselines are the published ones: RecBole 1.2.1 measured 0.0354 and 0.0706 under this protocol.
    assert 0.03 < metrics["popularity"]["ndcg@10"] < 0.05
    assert 0.06 < metrics["EASE"]["ndcg@10"] < 0.08


def test_the_pasted_answer_has_the_shape_of_a_real_one(served: Served) -> None:
    pasted = json.loads(block_with("json", "recommendation_id"))
    for _ in range(TRIES):  # a busy machine may cost a stage its budget
        real = json.loads(served.shell(block_with("sh", "curl")))
        if not real["degraded"]:
            break
    assert _shape(pasted) == _shape(real)
    assert real["tier"] == "personalized"
    assert real["degraded"] == []
    assert [item["properties"]["year"] >= 1990 for item in real["items"]] == [True, True]


def test_the_client_commands_print_tables(served: Served) -> None:
    recommend, similar, helped = (
        re.sub(r"\s+#.*", "", line) for line in block_with("sh", "marquee recommend").strip().splitlines()
    )
    assert "People who chose" in " ".join(served.shell(recommend).split())
    assert "Empire Strikes Back" in " ".join(served.shell(similar).split())
    assert "doctor" in served.shell(helped)


def test_people_may_be_let_loose_on_it(served: Served) -> None:
    """Whether this machine keeps the objectives is not asked."""
    said = served.shell(f"make -C {ROOT} load VENV={sys.prefix} USERS=2 RUN_TIME=5s || true")
    assert re.search(r"^(kept|missed) ", said, re.MULTILINE), said


def test_the_traffic_can_be_looked_at(served: Served) -> None:
    version = (served.home / "bundles" / "LATEST").read_text().strip()
    said = served.shell("marquee rollout status --url http://127.0.0.1:8000")
    assert version in said
    assert "100%" in said


def test_stopping_leaves_no_process_and_keeps_redis_data(served: Served) -> None:
    os.kill(served.process.pid, signal.SIGTERM)  # to make alone: it must pass it on
    served.process.wait(STOP_S)
    assert _processes_of(served.home) == []
    assert list((served.home / "redis").rglob("*.aof"))


def test_the_settings_table_is_the_code() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", README, re.MULTILINE))
    defaults = Settings()
    assert rows["PORT"] == f"`{defaults.port}`"
    assert rows["HOST"] == f"`{defaults.host}`"
    assert rows["MARQUEE_HOME"] == f"`{defaults.home}`"
    assert rows["REDIS_URL"] == rows["DATASET_PATH"] == "unset"


def test_the_configuration_example_is_one() -> None:
    [example] = blocks("yaml")
    config = ServeConfig.model_validate({"bundle": "x", **yaml.safe_load(example)})
    assert config.groups["accelerated"].autoscaling.max_replicas == 4


def test_every_command_it_names_is_one() -> None:
    """With options that it has; what needs a cluster cannot be run here."""
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    named = [words[1:] for words in lines if words[:1] == ["marquee"] and words[1:] != ["--help"]]
    assert ["train", "submit"] in named
    assert [said for words in named if (said := wrong(words))] == []


def test_make_knows_every_target_the_readme_names() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks("sh"))))
    assert {"serve", "test"} <= named
    for target in named:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_ones_own_data_as_described_is_read(tmp_path: Path) -> None:
    described = re.findall(r"^(\w+\.csv)\s+(\S+)", README, re.MULTILINE)
    assert [name for name, _ in described] == ["interactions.csv", "items.csv", "users.csv"]
    rows = {
        "interactions.csv": "u1,i1,4.5,1700000000",
        "items.csv": "i1,One,Drama|War,1999",
        "users.csv": "u1",
    }
    for name, columns in described:
        header = columns.removesuffix(",...")
        (tmp_path / name).write_text(f"{header}\n{rows[name]}\n")
    command = [
        sys.executable,
        "-m",
        "marquee",
        "data",
        "--dataset-path",
        str(tmp_path),
        "--home",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "items.parquet").exists()


def _environment(home: Path, port: int) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("HOST", "REDIS_URL", "MAKEFLAGS")
    }
    return {**kept, "MARQUEE_HOME": str(home), "PORT": str(port), "NO_COLOR": "1", "COLUMNS": "200"}


def _until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"make serve ended with {process.wait()}: {said[-3_000:]}")


def _shape(value: Any) -> Any:
    """Names and kinds, without values: of a list its first member, of properties and timings nothing more."""
    if isinstance(value, dict):
        return {
            name: name if name in ("properties", "timings") else _shape(each) for name, each in value.items()
        }
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def _processes_of(home: Path) -> list[str]:
    """Command lines of what still runs with this MARQUEE_HOME."""
    mark, found = f"MARQUEE_HOME={home}".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
