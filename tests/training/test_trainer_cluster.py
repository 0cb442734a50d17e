"""On a Ray of two nodes that runs already: it is joined by RAY_ADDRESS, used, and left as it was."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.training.gloo import assert_equal, two_ranks
from tests.training.processes import TAG, needs_proc, tagging
from training.dataset import Dataset
from training.fitting import two_tower_inputs
from training.loop import Inputs
from training.recipe import default
from training.schedule import Schedule
from training.trainer import TrainingFailed, _check_room, fit

pytestmark = pytest.mark.slow

SCHEDULE = replace(default().schedule, epochs=3, batch=64)

STARTED_S, TRAINED_S = 60.0, 240.0
"""Seconds for a node to start and for a run, each of which takes a few."""


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    env: what Ray's job submission gives a driver.
    nodes: the `ray start --block` of each.
    """

    env: dict[str, str]
    nodes: tuple[subprocess.Popen[bytes], ...]

    def train(
        self, inputs: Inputs, schedule: Schedule, folder: Path, **env: str
    ) -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        inputs.write(folder / "given.safetensors")
        (folder / "schedule.json").write_text(json.dumps(asdict(schedule)))
        return subprocess.run(
            [sys.executable, "-m", "tests.training.ray_run", str(folder)],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=TRAINED_S,
            check=False,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One CPU a node: two workers run only where each node takes one."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mq", dir="/tmp"))  # short: sockets' paths end at 107 bytes
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        given = {TAG: stack.enter_context(tagging()), "RAY_USAGE_STATS_ENABLED": "0"}
        given |= {"RAY_worker_niceness": "0"}  # by default 15: on a busy machine nothing would start
        given |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        env, port, proxy = {**os.environ, **given}, free_port(), free_port()
        head = ["--head", f"--port={port}", f"--ray-client-server-port={proxy}", f"--temp-dir={folder}"]
        head += ["--include-dashboard=false", f"--object-store-memory={100 << 20}"]
        other = [f"--address=127.0.0.1:{port}", f"--object-store-memory={100 << 20}"]
        nodes = tuple(
            stack.enter_context(node(arguments, env, folder / f"{name}.log"))
            for name, arguments in (("head", head), ("other", other))
        )
        yield Cluster(env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, nodes)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def node(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Has said that it runs. What it started ends with `tagging`."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=0"]
    command += ["--min-worker-port=0", "--max-worker-port=0", *arguments]
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=env) as process,
    ):
        try:
            end = time.monotonic() + STARTED_S
            while "Ray runtime started" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def inputs(dataset: Dataset) -> Inputs:
    return two_tower_inputs(dataset, {"serving": dataset.examples(dataset.train)})


@needs_proc
def test_two_nodes_train_what_one_machine_does_and_stay(
    cluster: Cluster, inputs: Inputs, tmp_path: Path
) -> None:
    done = cluster.train(inputs, SCHEDULE, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("{")]) == SCHEDULE.epochs
    weights = torch.load(tmp_path / "run" / "weights.pt", weights_only=True)
    (tmp_path / "alone").mkdir()
    assert_equal(weights, two_ranks(inputs, SCHEDULE, tmp_path / "alone")[0])
    assert [each.poll() for each in cluster.nodes] == [None, None]


@needs_proc
@pytest.mark.parametrize(
    ("schedule", "env", "said"),
    [
        (
            replace(SCHEDULE, gpu=True),
            {},
            "2 workers ask for a GPU each and Ray has 0: add nodes, lower --workers",
        ),
        (SCHEDULE, {"RAY_AUTH_TOKEN": "0" * 64}, "cannot be joined"),
    ],
    ids=["no GPUs", "another token"],
)
def test_what_it_cannot_have_is_one_line(
    cluster: Cluster, inputs: Inputs, tmp_path: Path, schedule: Schedule, env: dict[str, str], said: str
) -> None:
    done = cluster.train(inputs, schedule, tmp_path, **env)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert [each.poll() for each in cluster.nodes] == [None, None]


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001", "head"])
def test_an_address_of_another_kind_is_refused(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        TrainingFailed, match=rf"^RAY_ADDRESS={address} cannot be joined: it must be host:port"
    ):
        fit(inputs, SCHEDULE, tmp_path / "run", lambda facts: None)


def test_a_cluster_that_does_not_answer_is_one_line(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(TrainingFailed, match=r"^RAY_ADDRESS=\S+ cannot be joined: .*refused$"):
        fit(inputs, SCHEDULE, tmp_path / "run", lambda facts: None)


def test_too_few_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train would wait for ever."""
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(TrainingFailed, match=r"^3 workers ask for a CPU each and Ray has 2: add nodes"):
        _check_room(replace(SCHEDULE, workers=3))
