"""What the commands of the control plane share: how they end, and options that mean the same everywhere.

Does not belong here: what a command does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from k8s.client import Cluster
from k8s.errors import ControlError
from k8s.plan import PlanError

EXIT_BAD = 1
"""Rolled back, stopped, or it could not be done."""

EXIT_USAGE = 2
"""The command line makes no sense; click's own status, too."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0}

out = Console()
err = Console(stderr=True)


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people or for scripts.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="By default the kubeconfig's or the pod's.")
]
Name = Annotated[str, typer.Option("--name", help="The RayService.")]
Kubeconfig = Annotated[Path | None, typer.Option(help="By default KUBECONFIG or ~/.kube/config.")]
Context = Annotated[str | None, typer.Option("--context", help="One of the kubeconfig's contexts.")]

DEFAULT_NAME = "marquee"


@contextmanager
def failing() -> Iterator[None]:
    """What cannot be done ends the command with one red line; Ctrl-C with 130."""
    try:
        yield
    except PlanError as error:
        fail(str(error), EXIT_USAGE)
    except ControlError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(text: str, code: int = EXIT_BAD) -> None:
    err.print(f"[red]error[/] {escape(text)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def cluster(kubeconfig: Path | None, context: str | None, namespace: str | None) -> tuple[Cluster, str]:
    """The API server and the namespace to work in."""
    found = Cluster.connect(str(kubeconfig) if kubeconfig else None, context)
    return found, namespace or found.namespace


def print_json(value: Any) -> None:
    """One document a line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def seconds(text: str) -> float:
    """`90`, `90s`, `10m`, `1h` → s. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 10m or 1h")
    return float(match[1]) * _UNITS[match[2]]
