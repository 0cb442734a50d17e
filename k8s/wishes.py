"""Steps and guardrails as they are written on a command line.

Does not belong here: what they mean (`k8s.plan`, `k8s.guardrails`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import typer

from k8s.console import seconds
from k8s.guardrails import Guardrails
from k8s.plan import Step

NAMES = tuple(field.name for field in dataclasses.fields(Guardrails))


def parse_steps(text: str) -> tuple[Step, ...]:
    """`5:10m,25:10m` → steps. Raises typer.BadParameter."""
    steps = []
    for part in text.split(","):
        weight, colon, time = part.strip().partition(":")
        if not colon or not (weight.isascii() and weight.isdigit()):
            raise typer.BadParameter(f"{part!r} is no step: write PERCENT:TIME, e.g. 5:10m")
        steps.append(Step(int(weight), seconds(time)))
    return tuple(steps)


def write_steps(steps: Iterable[Step]) -> str:
    """What `parse_steps` reads."""
    return ",".join(f"{step.weight}:{step.seconds:g}s" for step in steps)


def parse_guardrails(given: Iterable[str]) -> Guardrails:
    """`error_rate=0.02` → the defaults with that limit. Raises typer.BadParameter."""
    limits = {}
    for part in given:
        name, _, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if name not in NAMES:
            raise typer.BadParameter(f"{name!r} is no guardrail; there are: {', '.join(NAMES)}")
        try:
            limits[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{part!r} has no number: write {name}=0.02") from None
        if not math.isfinite(limits[name]) or limits[name] < 0:
            raise typer.BadParameter(f"{part!r}: a limit is a number from 0 on")
    return Guardrails(**limits)
