"""How a command ends when it cannot do what was asked: one line that says what to do, and an exit status."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """One red line on stderr; the message is the whole report, so no traceback follows."""
    Console(stderr=True).print(f"[red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)
