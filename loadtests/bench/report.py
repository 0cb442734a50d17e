"""Where results are kept: `performance.json`, and the page and the plots made from it.

A run replaces the sections it measured and keeps the others. Does not belong here: measuring.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from loadtests.bench.codec import FORMAT, Entry, Unreadable, decode, encode
from loadtests.bench.page import page, plot_name
from loadtests.bench.result import Plot

DATA, PAGE, PLOTS = "performance.json", "performance.md", "performance"


def read(folder: Path) -> dict[str, Entry]:
    """Section name → what was measured last; empty where nothing was.

    Raises:
        Unreadable: the file is not one of this format.
    """
    path = folder / DATA
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise Unreadable(f"{path} has format {held['format']}, not {FORMAT}: move it away")
        entries = [decode(entry) for entry in held["sections"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path} holds no results ({error}): move it away") from error
    return {entry.section.name: entry for entry in entries}


def merge(folder: Path, entry: Entry, order: Sequence[str]) -> None:
    """Puts one section in its place and writes data, plots and page anew. One that was skipped replaces none
    that was measured, perhaps on another machine.

    Args:
        order: of the sections on the page, by name; others follow.

    Raises:
        Unreadable: see `read`.
        ValueError: a figure is not finite; what was there stays.
    """
    held = read(folder)
    before = held.get(entry.section.name)
    measured = before is not None and not before.section.skipped
    entries = held if entry.section.skipped and measured else {**held, entry.section.name: entry}
    names = [*(name for name in order if name in entries), *(name for name in entries if name not in order)]
    write(folder, [entries[name] for name in names])


def write(folder: Path, entries: Sequence[Entry]) -> None:
    data = {"format": FORMAT, "sections": [encode(entry) for entry in entries]}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / DATA, json.dumps(data, indent=1, allow_nan=False) + "\n")
    _draw(folder / PLOTS, entries)
    _replace(folder / PAGE, page(entries, PurePosixPath(PLOTS)))


def _draw(folder: Path, entries: Sequence[Entry]) -> None:
    """The plots of all sections; files of plots that are no more go."""
    wanted = {plot_name(entry.section, plot): plot for entry in entries for plot in entry.section.plots}
    for name, plot in wanted.items():
        folder.mkdir(exist_ok=True)
        _svg(folder / name, plot)
    for file in folder.glob("*.svg"):
        if file.name not in wanted:
            file.unlink()


def _svg(path: Path, plot: Plot) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "marquee", "svg.fonttype": "none"}):  # equal figures, equal files
        drawing = Figure(figsize=(7, 4), layout="constrained")
        axes = drawing.add_subplot()
        for name, points in plot.lines.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, label=name)
        if plot.log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        axes.grid(visible=True, alpha=0.3)
        if plot.lines:
            axes.legend()
        partial = path.with_name(f".{path.name}.partial")
        drawing.savefig(partial, format="svg", metadata={"Date": None})
        os.replace(partial, path)


def _replace(path: Path, text: str) -> None:
    """Writes the whole file, or leaves it as it was."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
