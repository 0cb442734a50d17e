"""Lines with which a command warns, and with which it ends when it cannot do what was asked."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape


def warn(what: str) -> None:
    """One yellow line on stderr: the command goes on, and its result may not be what was wanted."""
    Console(stderr=True).print(f"[yellow]warning[/] {escape(what)}", highlight=False, soft_wrap=True)


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """One red line on stderr; the message is the whole report, so no traceback follows."""
    Console(stderr=True).print(f"[red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)
