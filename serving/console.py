"""How lines of a local run's replicas come to the console of who started it: as datagrams on a Unix socket.

Ray keeps what its workers write in files below the run's folder, which goes with the run, so an error was
seen by nobody. Datagrams fill no disk and wait for no reader: what the socket has no room for is in Ray's
file alone.

Does not belong here: which lines there are, and what they look like (`serving.observe.logs`).
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

LONGEST = 1 << 16
"""Bytes of one record, traceback included; the rest of a longer one is cut off."""

CUT = b" ..."

WAIT_S = 0.05
"""Seconds that a record waits for room: Linux queues ten, and a console that somebody stopped reading must
not hold up answers for longer."""


class ToConsole(logging.Handler):
    """Sends each record, as formatted, to the socket at `path`. One that cannot be sent is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(WAIT_S)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST)  # macOS: 2 kB by default
        self._path = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
            if len(line) > LONGEST:
                line = line[: LONGEST - len(CUT)] + CUT
            self._socket.sendto(line, self._path)
        except OSError:  # nobody listens (any more), or it has no room: Ray's file has the line
            return
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


@contextmanager
def shown(path: Path, console: TextIO) -> Iterator[None]:
    """Writes each record sent to `path` (at most 107 bytes, as all sockets' paths) to the console, until the
    block is left."""
    taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    taking.bind(str(path))

    def show() -> None:
        while line := taking.recv(LONGEST):
            with suppress(OSError, ValueError):  # a console that was closed
                console.write(line.decode("utf-8", "replace") + "\n")
                console.flush()

    thread = threading.Thread(target=show, name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(path))  # an empty record ends it, after those that were sent before
        thread.join()
        taking.close()
        path.unlink()
