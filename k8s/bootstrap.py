"""The sequence that leads from nothing to a first bundle in service: data, features, training, evaluation,
store, traffic.

Each step is a `marquee` command of its own that does only what is not done yet, so the sequence may be
stopped at any moment, by SIGKILL too, and run again. A process for each step gives its memory back and, where
it runs out of it, is told apart from the sequence.

Does not belong here: what a step does; how traffic is written (`k8s.first_bundle`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from features.patience import SAID_S, patiently
from features.with_parent import die_with_parent
from k8s.errors import ControlError, Unavailable

PROGRAM = (sys.executable, "-m", "marquee")

LOCK_S = 900.0
"""s to wait for another bootstrap on the same home, such as that of the previous release's pod while it ends:
its grace is 120 s, and an upgrade may follow another."""

REDIS_S = 600.0
"""s to wait for Redis, which starts beside this: its image may have to be pulled and its volume made."""

API_S = 300.0
"""s to wait for an API server that does not answer: one that is upgraded is away for a minute or two."""

LOOK_S = 1.0
"""s between two looks at a lock."""


class BootstrapError(ControlError):
    """A step failed; the text says which one, how, and what to do."""


class Stopped(BaseException):
    """The sequence was asked to stop (SIGINT, SIGTERM), and its step has ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """A `marquee` command, its arguments without the program. `name` is for people."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for.

    Attributes:
        home: folder of data, features, checkpoints and bundles.
        dataset, dataset_path: as of `marquee data`; None leaves them to its environment and defaults.
        store: folder or URL that the bundle is published to; None: it stays in `home`.
        evaluate: whether the bundle is measured before it is published.
    """

    home: Path
    dataset: str | None = None
    dataset_path: str | None = None
    store: str | None = None
    evaluate: bool = True


class Service(Protocol):
    """Where the bundle comes into service."""

    def bundle(self) -> str | None:
        """The one in production; None where there is no traffic yet. Raises ControlErrors."""
        ...

    def bring(self, bundle: str) -> bool:
        """All traffic to the bundle, unless there is traffic already: then False. Raises ControlErrors."""
        ...


Said = Callable[[str], None]
Runner = Callable[[Step], str]
"""Runs a step and returns what it printed on stdout where its `name` is "publish", else "". Raises
BootstrapError where it fails, Stopped where it was asked to stop."""


def steps(ask: Ask) -> list[Step]:
    """What leads to a bundle, in order."""
    home = ("--home", str(ask.home))
    data = [
        part
        for option, value in (("--dataset", ask.dataset), ("--dataset-path", ask.dataset_path))
        if value
        for part in (option, value)
    ]
    return [
        Step("data", ("data", *data, *home)),
        Step("features", ("features", "--wait", f"{REDIS_S:g}", *home)),
        Step("train", ("train", *home)),
        *([Step("evaluate", ("evaluate", *home))] if ask.evaluate else []),
        *([Step("publish", ("publish", ask.store, *home))] if ask.store else []),
    ]


def bootstrap(ask: Ask, service: Service | None, run: Runner, said: Said) -> None:
    """Runs what is to be done, one bootstrap on a home at a time.

    Where traffic exists nothing is trained, published or moved, as later bundles come into service by a
    rollout; only the features of the data at hand are looked after, because Redis may have lost them.

    Raises:
        BootstrapError: a step failed, or another bootstrap on this home does not end.
        ControlError: the service cannot be asked or told.
        Stopped: as its name says.
    """
    with _alone(ask.home, said):
        if service is not None and (bundle := patiently(service.bundle, Unavailable, API_S, said)):
            said(f"bundle {bundle} is in service: nothing to train or publish; the next comes by a rollout")
            if (ask.home / "data").is_dir():
                _each([step for step in steps(ask) if step.name == "features"], run, said)
            return
        printed = _each(steps(ask), run, said)
        if service is not None:
            bundle = printed["publish"]
            if patiently(lambda: service.bring(bundle), Unavailable, API_S, said):
                said(f"traffic: all of it goes to {bundle}")
            else:
                said("traffic: another bundle came into service meanwhile; it is left alone")


def _each(todo: Sequence[Step], run: Runner, said: Said) -> dict[str, str]:
    """Step → what it printed."""
    printed, seconds = {}, {}
    for number, step in enumerate(todo, 1):
        said(f"step {number} of {len(todo)}: {step.name}")
        began = time.monotonic()
        printed[step.name] = run(step).strip()
        seconds[step.name] = time.monotonic() - began
        said(f"step {number} of {len(todo)}: {step.name} took {seconds[step.name]:.1f} s")
    said("done: " + ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items()))
    return printed


@contextmanager
def _alone(home: Path, said: Said) -> Iterator[None]:
    """Raises BootstrapError where another bootstrap keeps the home, or the home cannot be written."""
    path, waited = home / "bootstrap.lock", 0.0
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise BootstrapError(
            f"{home} cannot be written ({error.strerror}): choose another --home, or mount a volume there"
        ) from None
    with file:
        os.set_inheritable(file.fileno(), True)
        while not _locked(file.fileno()):
            if waited >= LOCK_S:
                raise BootstrapError(
                    f"another bootstrap has been at work in {home} for {LOCK_S:g} s: stop it"
                )
            if waited % SAID_S == 0:
                said(f"waiting for another bootstrap in {home} to end")
            time.sleep(LOOK_S)
            waited += LOOK_S
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Processes:
    """Runs steps as processes. Each is asked to end where this process is, and where this process dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._running = self._asked = self._passed_on = False

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the step that runs; then, or where none does, Stopped is raised."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, step: Step) -> str:
        self._running = True
        with subprocess.Popen(
            [*PROGRAM, *step.arguments],
            stdout=subprocess.PIPE if step.name == "publish" else None,
            text=True,
            process_group=0,  # a terminal's Ctrl-C comes here alone, and is passed on once
            preexec_fn=die_with_parent(),
            close_fds=False,  # the home's lock goes along: it is kept until the step has ended, too
        ) as process:
            self._process = process
            self._pass_on()
            printed, _ = process.communicate()
        self._process, self._running = None, False
        if self._asked:
            raise Stopped
        if process.returncode:
            raise BootstrapError(_failure(step, process.returncode))
        return printed or ""

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        self._pass_on()
        if not self._running:
            raise Stopped

    def _pass_on(self) -> None:
        """Once: a second signal would break off the orderly end that the first began."""
        if self._asked and self._process is not None and not self._passed_on:
            self._passed_on = True
            self._process.send_signal(signal.SIGTERM)


def _failure(step: Step, code: int) -> str:
    again = "run it again when that is mended: what is done is used again"
    if code == -signal.SIGKILL:
        return (
            f"bootstrap stopped at {step.name}: it was killed (SIGKILL), as the kernel does where memory "
            f"ends: give it more (on a cluster bootstrap.resources.limits.memory); {again}"
        )
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}, its reason is above"
    return f"bootstrap stopped at {step.name}: {how}; {again}"
