"""The program that does what needs Ray: its answers, its end, and the end of what it left running."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from serving.config import ServeConfig
from serving.local import deployer
from serving.local.deployer import Deployer, StartFailed, ended
from serving.local.deploying import obey

CONFIG = ServeConfig(bundle="nowhere").model_dump(mode="json")
NO_REDIS = "redis://127.0.0.1:1/0"

PROGRAM = """
import sys, time
print("noise", file=sys.stderr)
for line in sys.stdin:
    if "wait" in line:
        time.sleep(60)
    if "leave" in line:
        sys.exit(3)
    print('{"value": 7}', flush=True)
"""

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stand_in.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(deployer, "MODULE", "stand_in")


def test_a_refusal_is_its_text_alone() -> None:
    with Deployer() as deploying, pytest.raises(StartFailed, match="REDIS_URL") as refused:
        deploying.ask("check", config=CONFIG, redis_url=NO_REDIS)
    assert "\n" not in str(refused.value)


def test_what_nobody_expected_comes_with_its_traceback() -> None:
    assert "Traceback" in obey('{"step": "check"}')["broken"]
    assert "KeyError" in obey('{"step": "dance"}')["broken"]


@pytest.mark.usefixtures("program")
def test_it_answers_as_often_as_it_is_asked_and_then_ends() -> None:
    with Deployer() as deploying:
        assert [deploying.ask("add", a=3), deploying.ask("add", a=4)] == [7, 7]
        process = psutil.Process(deploying.pid)
    assert not process.is_running()


@pytest.mark.usefixtures("program")
def test_a_program_that_ends_in_the_middle_says_so() -> None:
    with Deployer() as deploying, pytest.raises(RuntimeError, match="leave ended with 3"):
        deploying.ask("leave")


@pytest.mark.usefixtures("program")
def test_a_step_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployer, "STEP_S", 0.1)
    monkeypatch.setattr(deployer, "ENDED_S", 0.1)
    with Deployer() as deploying:
        process = psutil.Process(deploying.pid)
        with pytest.raises(RuntimeError, match="wait took more than"):
            deploying.ask("wait")
    assert not process.is_running()


@pytest.mark.parametrize("name", ["raylet", "other"])
def test_processes_left_running_are_ended_with_all_below_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployer, "RAYLET", psutil.Process().name() if name == "raylet" else name)
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        both = [psutil.Process(parent.pid), psutil.Process(int(parent.stdout.readline()))]
        with ended([parent.pid]):
            assert all(map(_runs, both))
        assert not any(map(_runs, both))


def test_what_has_ended_already_is_no_error() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
        ended([process.pid]),
    ):
        process.communicate(b"\n")
