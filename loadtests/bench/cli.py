"""`python -m loadtests.bench`: runs suites one after another and writes what each found as soon as it has.

Does not belong here: how anything is measured.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from loadtests.bench import report
from loadtests.bench.inputs import NoWorld, World, world
from loadtests.bench.machine import machine
from loadtests.bench.result import Entry, Section
from loadtests.bench.rounds import FULL, QUICK, Effort

SUITES = {
    # name: the module that has `run(effort, world)`; in the order of the page
    name: f"loadtests.bench.suites.{name}"
    for name in ("peers", "layers", "retrieval", "features", "scale", "gpu")
}

DOCS = Path("docs")
"""Where a full run writes; a quick one writes to a temporary folder, as its figures mean little."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="The short form: shows that the suites run.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help=f"A suite to run, again for more: {', '.join(SUITES)}.")
    ] = None,
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="With data, features and a bundle.")
    ] = Path(".marquee"),
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.  [default: docs; quick: a temporary one]")
    ] = None,
) -> None:
    """Benchmarks, side by side; each suite replaces its own section of performance.md and .json."""
    chosen = list(SUITES) if not only else [name for name in SUITES if name in only]
    if unknown := set(only or ()) - SUITES.keys():
        _fail(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    effort = QUICK if quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops what was started
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s   %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("loadtests").setLevel(logging.INFO)
    with ExitStack() as stack:
        target = out or (Path(tempfile.mkdtemp(prefix="marquee-bench-")) if quick else DOCS)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqb")))
        try:
            report.read(target)
            shared = world(home, work, quick, _say)
        except (NoWorld, report.Unreadable) as error:
            _fail(str(error))
        failed = [name for name in chosen if not _run(name, effort, shared, target)]
    if len(failed) < len(chosen):
        _say(f"written to {target / report.PAGE}")
    if failed:
        _fail(f"failed: {', '.join(failed)}")


def _run(name: str, effort: Effort, shared: World, target: Path) -> bool:
    """Whether the suite gave a section; where it raised, what it raised is told and the others go on."""
    _say(f"{name}: measuring")
    started = time.perf_counter()
    own = World(shared.home, shared.bundle, shared.work / name)
    own.work.mkdir()
    try:
        section: Section = importlib.import_module(SUITES[name]).run(effort, own)
        taken = time.perf_counter() - started
        entry = Entry(section, _now(), _command(name, effort), effort.quick, round(taken, 1), machine())
        report.merge(target, entry, list(SUITES))
    except Exception:
        traceback.print_exc()
        _say(f"{name}: failed")
        return False
    _say(f"{name}: {f'skipped, {section.skipped}' if section.skipped else f'done in {taken:.0f} s'}")
    return True


def _command(name: str, effort: Effort) -> str:
    return shlex.join(
        ["python", "-m", "loadtests.bench", *(["--quick"] if effort.quick else []), "--only", name]
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")


def _say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def _fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise typer.Exit(1)
