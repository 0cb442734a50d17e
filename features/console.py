"""Lines with which a command warns, and with which it ends when it cannot do what was asked."""

from __future__ import annotations

import errno
import os
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

DEFECT = 70
"""Exit status of a command that met a defect: EX_SOFTWARE of sysexits(3)."""

KEPT_TRACEBACKS = 20
"""Files of tracebacks kept in `<home>/logs`, the newest; 10 kB each at most times."""

LONGEST_MESSAGE = 200
"""Characters of an unexpected error's own words that a line repeats; the file has them all."""

_MACHINE = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE}
"""What the machine refuses, which is no defect: rights, room, open files."""


def warn(what: str) -> None:
    """One yellow line on stderr: the command goes on, and its result may not be what was wanted."""
    Console(stderr=True).print(f"[yellow]warning[/] {escape(what)}", highlight=False, soft_wrap=True)


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """One red line on stderr; the message is the whole report, so no traceback follows."""
    Console(stderr=True).print(f"[red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def unexpected(error: Exception, home: Path) -> NoReturn:
    """Ends a command that met an error it does not know: one line that says so, and where the traceback is:
    in `<home>/logs` or, where nothing can be written there, in the folder for temporary files. What the
    machine refused (no room, no rights) is shown as any other failure."""
    if isinstance(error, OSError) and error.errno in _MACHINE:
        fail(error)
    words = " ".join(str(error).split())
    summary = type(error).__name__ + (f": {words[:LONGEST_MESSAGE]}" if words else "")
    fail(
        f"{summary}. This is a defect of Marquee; its traceback is in {_kept(error, home / 'logs')} "
        "(MARQUEE_DEBUG=1 shows it here)",
        DEFECT,
    )


def _kept(error: Exception, folder: Path) -> Path:
    """The file with the traceback, which its owner alone can read: messages may quote what was given."""
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"defect-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as log:
            log.write(text)
        for old in sorted(folder.glob("defect-*.log"))[:-KEPT_TRACEBACKS]:
            old.unlink(missing_ok=True)
    except OSError:
        number, name = tempfile.mkstemp(prefix="marquee-defect-", suffix=".log")
        with open(number, "w", encoding="utf-8") as log:
            log.write(text)
        file = Path(name)
    return file
