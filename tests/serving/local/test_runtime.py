"""What a run rests on: settings, ports, and a guard that outlives it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serving.local import guard
from serving.local.deployer import StartFailed
from serving.local.ports import PORT_BLOCK, check_port, free_block
from serving.local.preflight import findings
from serving.local.runtime import write_admin_token
from serving.settings import SettingError, Settings


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "8 000", "٨٠٠٠"])
def test_a_port_that_is_none_is_named(port: str) -> None:
    with pytest.raises(SettingError, match="PORT must be a whole number"):
        Settings.read({"PORT": port})


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.read({"PORT": "", "REDIS_URL": "", "HOST": ""}) == Settings()


def test_the_command_line_wins_over_the_environment_and_silence_does_not() -> None:
    settings = Settings.read({"PORT": "8001", "HOST": "0.0.0.0"}).override(port=8002, host=None)
    assert (settings.port, settings.host, settings.url) == (8002, "0.0.0.0", "http://127.0.0.1:8002")


def test_a_taken_port_is_refused_in_one_line_that_says_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"cannot listen on 127.0.0.1:{port} .* PORT=") as refused:
            check_port(Settings(port=port))
    assert "\n" not in str(refused.value)


def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(SettingError, match="HOST"):
        check_port(Settings(host="no host", port=1234))


def test_a_block_leaves_out_ports_that_are_in_use() -> None:
    block = free_block()
    assert len(block) == PORT_BLOCK
    with socket.create_server(("127.0.0.1", block[3])):
        assert block[3] not in free_block()


def test_a_block_leaves_out_the_port_that_is_to_be_taken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    block = free_block()
    monkeypatch.setattr("serving.local.ports.BLOCK_STARTS", range(block[0], block[-1], PORT_BLOCK))
    assert free_block() == block
    with pytest.raises(SettingError, match="no 25 free ports"):
        free_block(beside=block[3])


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(
            port=taken.getsockname()[1],
            home=tmp_path / "home",
            redis_url="redis://127.0.0.1:1/0",
            dataset_path=tmp_path / "absent",
        )
        found = {finding.check: finding for finding in findings(settings)}
    assert {name for name, finding in found.items() if not finding.ok} == {
        "PORT",
        "REDIS_URL",
        "DATASET_PATH",
    }
    assert "does not exist" in found["DATASET_PATH"].detail


def test_doctor_is_content_with_the_defaults(tmp_path: Path) -> None:
    [port] = free_block()[:1]
    assert all(finding.ok for finding in findings(Settings(port=port, home=tmp_path)))


# Everybody's output is one pipe, so its end of file says that all of them are gone.
CHILD = """
import os, signal, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
from pathlib import Path
from serving.local.guard import RUN_ID, Guard
tag, folder, child = sys.argv[1:]
guard = Guard(tag, Path(folder))
os.environ[RUN_ID] = tag
subprocess.Popen([sys.executable, "-c", child], start_new_session=True).wait()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="the guard reads /proc")


@linux
def test_a_killed_run_leaves_neither_processes_nor_its_folder(tmp_path: Path) -> None:
    tag, folder = "test-" + os.urandom(4).hex(), tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", PARENT, tag, str(folder), CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert guard.members(tag) == [child]
        parent.send_signal(signal.SIGKILL)
        parent.stdout.read()
    assert guard.members(tag) == []
    assert not folder.exists()


@linux
def test_a_process_that_ignores_sigterm_is_killed() -> None:
    tag = "test-" + os.urandom(4).hex()
    command = [sys.executable, "-c", CHILD, "stubborn"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, guard.RUN_ID: tag}
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        ending = threading.Thread(target=guard.end_all, args=(tag, 0.0))  # it waits for us to reap the child
        ending.start()
        assert child.wait() == -signal.SIGKILL
        ending.join()


def test_the_admin_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "not there yet")
    assert settings.read_admin_token() is None
    write_admin_token(settings)
    token = settings.read_admin_token()
    assert token is not None
    assert len(token) >= 32
    assert settings.admin_token_file.stat().st_mode & 0o777 == 0o600
    write_admin_token(settings)  # a second run beside the first
    assert settings.read_admin_token() == token


def test_a_token_from_the_environment_is_written_nowhere_and_shown_nowhere(tmp_path: Path) -> None:
    settings = Settings.read({"MARQUEE_ADMIN_TOKEN": "s3cret", "MARQUEE_HOME": str(tmp_path)})
    write_admin_token(settings)
    assert settings.read_admin_token() == "s3cret"
    assert not settings.admin_token_file.exists()
    assert "s3cret" not in repr(settings)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    write_admin_token(settings)
    settings.admin_token_file.chmod(0o644)
    with pytest.raises(StartFailed, match="can be read by others"):
        write_admin_token(settings)
