"""A failed training names the worker, where it ran, its limit, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.remedy import RELEASE
from training import failure
from training.failure import LONGEST, Place, last_line, why


class GroupFailed(Exception):
    """As Ray's WorkerGroupError."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors:\nsomething that was cut off in mid-wo")
        self.worker_failures = failures


PEER = RuntimeError("Traceback ...\nConnection closed by peer [10.0.0.2]:39712")
KILLED = RuntimeError("The actor died unexpectedly before finishing this task.\nhas no logs")
MEMORY = RuntimeError("Task was killed due to the node running low on memory.\nRefer to the documentation")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(RELEASE, raising=False)
    for rank in (0, 1):
        Place(f"marquee-train-w{rank}", 2 << 30).note(tmp_path, rank)
    return tmp_path


@pytest.mark.parametrize(
    ("cause", "said"), [(KILLED, "was killed, as where memory ends"), (MEMORY, "ran out of memory")]
)
def test_in_a_cluster_the_pod_the_limit_and_the_value_are_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception, said: str
) -> None:
    """And not the peer that only saw the other go."""
    monkeypatch.setenv(RELEASE, "films")
    found = why(GroupFailed({0: PEER, 1: cause}), run)
    assert found.startswith(f"worker 1 in pod marquee-train-w1 (memory limit 2 GiB) {said}: ")
    assert "raise retrain.worker.resources.limits.memory" in found


def test_on_a_machine_no_value_of_a_chart_is(run: Path) -> None:
    found = why(GroupFailed({1: MEMORY}), run)
    assert found.startswith("worker 1 on marquee-train-w1 (memory limit 2 GiB) ran out of memory: end other")
    assert "limits.memory" not in found


NOT_STARTED = """Training failed due to controller error:
1 worker(s) were killed due to the node running low on memory. Object store memory usage: none
Memory on the node (IP: 10.0.0.7, ID: 5f3a) was 0.66GB used / 0.68GB limit (0.971)
Refer to the documentation on how to address the out of memory issue. Set max_restarts and max_task_retries"""


def test_a_group_that_did_not_start_is_named_by_the_machine_whose_memory_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray then gives one error for all: it began in the middle, and named no pod and no limit."""
    monkeypatch.setenv(RELEASE, "films")
    error = RuntimeError(NOT_STARTED)
    limit = "(memory limit 0.68 GiB) ran out of memory: raise "
    assert why(error, tmp_path).startswith(f"a worker in pod 10.0.0.7 {limit}"), "Ray is gone"
    nodes = [{"NodeManagerAddress": f"10.0.0.{n}", "NodeManagerHostname": f"films-w{n}"} for n in range(6, 9)]
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert why(error, tmp_path).startswith(f"a worker in pod films-w7 {limit}")
    assert why(GroupFailed({3: error}), tmp_path).startswith(f"worker 3 in pod films-w7 {limit}")


def test_another_failure_is_its_last_line(run: Path, tmp_path: Path) -> None:
    error = GroupFailed({0: ValueError("Traceback:\n  line 3\nValueError: loss is not finite")})
    assert why(error, run).endswith("failed: ValueError: loss is not finite")
    assert why(RuntimeError("first\nRay is gone"), tmp_path) == "Ray is gone"


@given(st.text())
def test_it_is_one_line_that_begins_where_a_line_began(text: str) -> None:
    line = last_line(RuntimeError(text))
    assert len(line.splitlines()) == 1
    assert len(line) <= LONGEST + 2
    whole = [each.strip() for each in text.splitlines() if each.strip()] or ["RuntimeError"]
    assert whole[-1].startswith(line.removesuffix(" …"))


@pytest.mark.parametrize(
    ("said", "limit"), [("2147483648\n", 2 << 30), ("max\n", None), (str(1 << 62), None)]
)
def test_the_limit_is_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, limit: int | None
) -> None:
    (tmp_path / "max").write_text(said)
    monkeypatch.setattr(failure, "LIMITS", (str(tmp_path / "absent"), str(tmp_path / "max")))
    assert Place.here().memory == limit
