"""On a real Ray with two workers: what is killed or stopped resumes, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.training.gloo import assert_equal, two_ranks
from tests.training.processes import TAG, needs_proc, tagged, tagging
from training.dataset import Dataset
from training.fitting import two_tower_inputs
from training.loop import Inputs, State
from training.recipe import default
from training.trainer import TrainingFailed, fit

SCHEDULE = replace(default().schedule, epochs=40, batch=64)


@pytest.fixture(scope="module")
def inputs(dataset: Dataset) -> Inputs:
    return two_tower_inputs(dataset, {"serving": dataset.examples(dataset.train)})


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "tests.training.ray_run", str(folder)]
    with (
        tagging() as tag,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, TAG: tag}) as process,
    ):
        try:
            yield process, tag
        finally:
            process.kill()


def next_epoch(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):  # Ray may say there what it thinks of a killed worker
            epoch: dict[str, int] = json.loads(line)
            return epoch
    pytest.fail(f"ended early with {process.wait()}")


@needs_proc
@pytest.mark.slow
def test_stopped_then_resumed_with_a_worker_killed_it_ends_as_if_undisturbed(
    inputs: Inputs, tmp_path: Path
) -> None:
    inputs.write(tmp_path / "given.safetensors")
    (tmp_path / "schedule.json").write_text(json.dumps(asdict(SCHEDULE)))
    with running(tmp_path) as (process, tag):
        assert next_epoch(process)["epoch"] == 1
        for _ in range(3):  # Ray knows of a checkpoint once its controller has looked
            next_epoch(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 130
        assert tagged(tag) == []
    with running(tmp_path) as (process, _):
        resumed = next_epoch(process)
        assert resumed["epoch"] > 2
        for _ in range(3):
            last = next_epoch(process)
        os.kill(resumed["pid"], signal.SIGKILL)
        replaced = next_epoch(process)
        while replaced["pid"] == resumed["pid"]:  # what it said before it died
            last, replaced = replaced, next_epoch(process)
        assert 2 < replaced["epoch"] <= last["epoch"] + 2  # one may have been done and not yet been said
        process.communicate(timeout=240)
        assert process.returncode == 0
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    (tmp_path / "undisturbed").mkdir()
    assert_equal(weights, two_ranks(inputs, SCHEDULE, tmp_path / "undisturbed")[0])


def test_a_finished_run_is_not_trained_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of an interrupted command's training is kept: no Ray is started for it."""
    monkeypatch.setattr("training.trainer._ray", lambda schedule: pytest.fail("started Ray"))
    run = tmp_path / "run"
    run.mkdir()
    State("serving", 1, {}, {}, {"serving": {"w": torch.ones(2)}}).write(run)
    weights = fit(inputs, SCHEDULE, run, lambda facts: None)
    assert torch.equal(weights["serving"]["w"], torch.ones(2))


def test_a_ray_that_does_not_start_is_one_line_and_leaves_no_files(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def broken(**options: object) -> None:
        raise RuntimeError("first\nThe node has no room")

    monkeypatch.setattr(ray, "init", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(Path("/tmp").glob("mq-*"))
    with pytest.raises(TrainingFailed, match=r"^Ray did not start: The node has no room$"):
        fit(inputs, SCHEDULE, tmp_path / "run", lambda facts: None)
    assert set(Path("/tmp").glob("mq-*")) - before == set()
