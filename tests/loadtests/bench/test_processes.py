import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from loadtests.bench import processes
from loadtests.bench.processes import (
    Served,
    ServerFailed,
    cpu_seconds,
    pss,
    serving,
    stop,
    tree,
)
from serving.local.ports import free_block

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
sum(range(3_000_000))
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            yield parent.pid, int(parent.stdout.readline())
        finally:
            parent.kill()


def test_a_tree_is_the_root_and_all_below(family: tuple[int, int]) -> None:
    assert {process.pid for process in tree(family[0])} == set(family)


def test_a_dead_root_has_no_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert tree(ended.pid) == []
    assert cpu_seconds(ended.pid) == 0
    assert pss(ended.pid) == 0


def test_cpu_and_memory_are_of_the_whole_tree(family: tuple[int, int]) -> None:
    parent, child = family
    assert cpu_seconds(parent) >= cpu_seconds(child)
    assert cpu_seconds(parent) > 0
    assert pss(parent) > pss(child) > 1_000_000


def test_stopping_ends_the_whole_tree(family: tuple[int, int]) -> None:
    members = tree(family[0])
    stop(family[0], timeout_s=5)
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members)


def test_what_ignores_the_signal_is_killed() -> None:
    deaf = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stop(process.pid, timeout_s=0.1)
        assert not psutil.pid_exists(process.pid)


def test_a_server_is_ready_and_then_gone(tmp_path: Path) -> None:
    port = free_block()[0]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    with serving(command, {}, f"{url}/", 60) as served:
        assert served == Served(url, served.pid)
        assert httpx.get(url, trust_env=False).is_success
    assert not psutil.pid_exists(served.pid)


def test_the_server_is_given_the_environment() -> None:
    script = "import os, sys; sys.exit(os.environ['WHAT'])"
    with (
        pytest.raises(ServerFailed, match="it said this"),
        serving([sys.executable, "-c", script], {"WHAT": "it said this"}, "http://127.0.0.1:1/", 60),
    ):
        pytest.fail("never ready")


def test_a_server_that_is_never_ready_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys, threading; print('waiting', flush=True); threading.Event().wait()"
    started: list[int] = []
    original = processes.stop
    monkeypatch.setattr(processes, "stop", lambda pid: (started.append(pid), original(pid)))
    with (
        pytest.raises(ServerFailed, match="not ready after"),
        serving([sys.executable, "-c", script], {}, "http://127.0.0.1:1/", 0.3),
    ):
        pytest.fail("never ready")
    [pid] = started
    assert not psutil.pid_exists(pid)
