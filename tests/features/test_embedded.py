"""The embedded server's life: data on disk, one owner, no survivor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from features import embedded
from features.embedded import EmbeddedRedis, EmbeddedRedisError, redis_url

PARENT = """
import signal, sys
from pathlib import Path
from features.embedded import EmbeddedRedis
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it without
with EmbeddedRedis(Path(sys.argv[1])) as server:
    print(server.pid, server.url, flush=True)
    sys.stdin.read()
"""


def start_parent(directory: Path) -> tuple[subprocess.Popen[str], int, str]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid, url = parent.stdout.readline().split()
    return parent, int(pid), url


def finish(parent: subprocess.Popen[str]) -> None:
    for stream in (parent.stdin, parent.stdout):
        assert stream is not None
        stream.close()
    parent.wait(30)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_data_survives_a_restart_in_a_private_directory(tmp_path: Path) -> None:
    directory = tmp_path / "with space" / "redis"
    with EmbeddedRedis(directory) as server, Redis.from_url(server.url) as client:
        client.set("k", "v")
        assert directory.stat().st_mode & 0o077 == 0
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert not alive_at(server.url)
    with EmbeddedRedis(directory) as server, Redis.from_url(server.url) as client:
        assert client.get("k") == b"v"


def alive_at(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1].split("/")[0]))) == 0


def test_without_the_password_nothing_is_told(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        host_and_db = server.url.split("@")[1]
        with Redis.from_url(f"redis://{host_and_db}") as client, pytest.raises(AuthenticationError):
            client.ping()
        password = server.url.split(":")[2].split("@")[0]
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_a_directory_has_one_owner_who_is_named(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path),
        pytest.raises(EmbeddedRedisError, match=f"process {os.getpid()}"),
        EmbeddedRedis(tmp_path),
    ):
        pass
    with EmbeddedRedis(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_server_ends_with_a_parent_that_is_killed_and_its_data_stays(tmp_path: Path) -> None:
    parent, pid, url = start_parent(tmp_path)
    with Redis.from_url(url) as client:
        client.set("k", "v")
    parent.kill()
    finish(parent)
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as client:  # waits for the old one
        assert client.get("k") == b"v"
        assert not alive(pid)


def test_ctrl_c_reaches_only_the_parent(tmp_path: Path) -> None:
    parent, pid, _ = start_parent(tmp_path)
    assert os.getpgid(pid) != os.getpgid(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    finish(parent)
    assert parent.returncode != 0
    assert not alive(pid)


def test_a_server_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.1)
    with EmbeddedRedis(tmp_path) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedRedisError, match="Address already in use") as caught:
            EmbeddedRedis(tmp_path, port=port).__enter__()
        assert "\n" not in str(caught.value)
    with EmbeddedRedis(tmp_path, port=port) as server:
        assert f":{port}/" in server.url


def test_a_port_lost_in_between_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = embedded._free_port()
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with EmbeddedRedis(tmp_path) as server:
            assert f":{free}/" in server.url


def test_a_damaged_log_says_what_to_remove_and_leaves_nothing_running(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as client:
        client.set("k", "v")
    for part in (tmp_path / "appendonlydir").glob("*.manifest"):
        part.write_text("nonsense")
    with pytest.raises(EmbeddedRedisError, match="remove"):
        EmbeddedRedis(tmp_path).__enter__()
    for part in (tmp_path / "appendonlydir").iterdir():
        part.unlink()
    with EmbeddedRedis(tmp_path):  # the failed start left neither lock nor process
        pass


def test_a_binary_that_does_not_run_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_binary", lambda: str(tmp_path / "nothing"))
    with pytest.raises(EmbeddedRedisError, match="REDIS_URL"):
        EmbeddedRedis(tmp_path).__enter__()


def test_a_configured_redis_is_used_as_it_is(tmp_path: Path) -> None:
    with redis_url(tmp_path / "redis", "redis://elsewhere:1/0") as url:
        assert url == "redis://elsewhere:1/0"
    assert not (tmp_path / "redis").exists()
    with redis_url(tmp_path / "redis", None) as url, Redis.from_url(url) as client:
        assert client.ping()
