"""Sections as Markdown. Every word about a result comes from a figure; the page claims nothing of its own.

Does not belong here: files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadtests.bench.machine import Machine
from loadtests.bench.result import Cell, Entry, Goal, Spread, Table

HEAD = """\
# Performance

<!-- Written by `make bench` from performance.json; do not edit. -->

Absolute times mean nothing on another machine: a claim is a ratio of arms measured in turn, in one run. A
figure is the median of its rounds, with the lowest and the highest in brackets. Every section says when, on
what and with which command it was measured.
"""


def page(entries: Sequence[Entry]) -> str:
    """The whole page."""
    return "\n".join(part for part in (HEAD, _goals(entries), *map(_entry, entries)) if part)


def _goals(entries: Sequence[Entry]) -> str:
    rows = [
        (goal.measure, goal.found, _sought(goal), "reached" if goal.reached else "not reached", goal.limit)
        for entry in entries
        for goal in entry.section.goals
    ]
    if not rows:
        return ""
    return "## Goals\n\n" + table(("measure", "found", "sought", "", "what limits it"), rows)


def _sought(goal: Goal) -> str:
    return f"{'≤' if goal.sense == 'at most' else '≥'} {goal.reach:,g}"


def _entry(entry: Entry) -> str:
    section = entry.section
    parts = [f"## {section.title}\n", f"{_run(entry)}\n"]
    if section.skipped:
        parts.append(f"Skipped: {section.skipped}\n")
    if section.text:
        parts.append(f"{section.text.strip()}\n")
    parts += [_titled(one) for one in section.tables]
    return "\n".join(parts)


def _run(entry: Entry) -> str:
    short = " **Quick: it shows that the suite runs; its figures mean little.**" if entry.quick else ""
    run = f"{entry.date}, {entry.seconds:.0f} s: `{entry.command}`{short}"
    return f"{run}\n\n<sub>{_machine(entry.machine)}</sub>"


def _machine(machine: Machine) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    gpu = f", {machine.gpu}" if machine.gpu else ""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB{gpu}; "
        f"Linux {machine.kernel}, Python {machine.python}, {libraries}"
    )


def _titled(one: Table) -> str:
    title = f"**{one.title}**\n\n" if one.title else ""
    return title + table(one.columns, one.rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A Markdown table; columns of figures stand right."""
    rows = list(rows)
    right = [rows and all(not isinstance(row[at], str) for row in rows) for at in range(len(columns))]
    lines = [columns, ["---:" if figures else "---" for figures in right]]
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Spread):
        around = f" [{figure(cell.low)} to {figure(cell.high)}]" if len(cell.values) > 1 else ""
        return f"{figure(cell.median)}{around}"
    if isinstance(cell, str):
        return cell.replace("|", "\\|").replace("\n", " ")
    return f"{cell:,}" if isinstance(cell, int) else figure(cell)


def figure(value: float) -> str:
    """Three digits that count, without an exponent where one can do without."""
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
