"""A start of Ray that fails is tried again, and leaves no process behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from training.ray_session import STARTS, own_ray

WAITING = "import time; time.sleep(60)"
A_NODE = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "{WAITING}"]).pid, flush=True)
{WAITING}
"""
"""A process with a process of its own, as Ray's raylet has its agents."""


class SlowRay:
    """Stands for `ray.init`: starts its node, and gives up on it the first `slow` times."""

    def __init__(self, slow: int, until: ExitStack) -> None:
        self.slow, self.until = slow, until
        self.starts: list[tuple[psutil.Process, psutil.Process]] = []

    def __call__(self, **_: Any) -> None:
        node = _started(A_NODE, self.until)
        assert node.stdout is not None
        own = psutil.Process(int(node.stdout.readline()))
        self.until.callback(_kill, own)
        self.starts.append((psutil.Process(node.pid), own))
        if len(self.starts) <= self.slow:
            raise Exception("The current node timed out during startup.")


def _started(code: str, until: ExitStack) -> subprocess.Popen[bytes]:
    process = until.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
    until.callback(process.kill)
    return process


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.fixture
def until() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_slow_start_is_ended_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: ExitStack
) -> None:
    slow = SlowRay(1, until)
    monkeypatch.setattr(ray, "init", slow)
    redis = psutil.Process(_started(WAITING, until).pid)
    with own_ray(tmp_path, num_cpus=1):
        first, second = slow.starts
        assert not any(map(_runs, first))
        assert all(map(_runs, second))
        assert _runs(redis)


def test_the_last_failure_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: ExitStack
) -> None:
    slow = SlowRay(STARTS, until)
    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(Exception, match="timed out during startup"), own_ray(tmp_path, num_cpus=1):
        pytest.fail("it did not start")
    assert len(slow.starts) == STARTS
    assert not any(_runs(process) for start in slow.starts for process in start)
