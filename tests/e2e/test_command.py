"""`marquee serve` as a user runs it: refusals before anything slow, a second run beside the first, an end
that leaves nothing."""

import signal
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from features.embedded import EmbeddedRedis
from serving.local import guard
from serving.local.ports import free_block
from tests.e2e.conftest import command


def refused(*arguments: str, **environment: str) -> str:
    """The one line on stderr of a command that must fail, after those that say how far it came."""
    with command(*arguments, **environment) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    *steps, line = stderr.strip().splitlines()
    assert all(step.startswith("[") for step in steps), stderr
    return line


def test_a_taken_port_is_one_line(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused("serve", MARQUEE_HOME=str(home), PORT=port)
    assert port in line
    assert "PORT=" in line


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    assert "marquee train" in refused("serve", MARQUEE_HOME=str(tmp_path))


def test_an_unreachable_redis_is_one_line(home: Path) -> None:
    port = str(free_block()[0])
    line = refused("serve", MARQUEE_HOME=str(home), PORT=port, REDIS_URL="redis://127.0.0.1:1/0")
    assert "REDIS_URL" in line


def test_a_half_written_bundle_is_one_line(home: Path, redis: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    port = str(free_block()[0])
    line = refused(
        "serve", "--bundle", str(tmp_path / "half"), MARQUEE_HOME=str(home), PORT=port, REDIS_URL=redis.url
    )
    assert str(tmp_path / "half") in line


@pytest.mark.parametrize("ending", [signal.SIGTERM])
def test_a_run_beside_another_answers_and_leaves_nothing_when_stopped(
    home: Path, redis: EmbeddedRedis, cluster: object, ending: signal.Signals
) -> None:
    port = str(free_block()[0])
    with command("serve", MARQUEE_HOME=str(home), PORT=port, REDIS_URL=redis.url) as process:
        assert process.stdout is not None
        banner = ""
        for line in process.stdout:
            banner += line
            if "Stop with" in line:
                break
        assert f"http://127.0.0.1:{port}" in banner, process.stderr and process.stderr.read()
        assert "_raylet" not in Path(f"/proc/{process.pid}/maps").read_text()  # Ray is in others' memory
        assert not {"serving.local.deploying", "log_monitor.py", "monitor.py"} & _programs(process.pid)
        [tag] = {_tag(pid) for pid in _children(process.pid)} - {None}
        assert httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
        with command("recommend", "nobody", "--url", f"http://127.0.0.1:{port}") as asked:
            assert "popular" in asked.communicate(timeout=60)[0]
        process.send_signal(ending)
        process.send_signal(ending)  # a second one changes nothing
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert guard.members(str(tag)) == []


def _programs(pid: int) -> set[str]:
    """Names of the scripts and modules that run below a process."""
    words = (word for child in psutil.Process(pid).children(recursive=True) for word in child.cmdline())
    return {Path(word).name for word in words}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _tag(pid: int) -> str | None:
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == guard.RUN_ID.encode():
            return value.decode()
    return None
