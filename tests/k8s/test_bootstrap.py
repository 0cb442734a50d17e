"""The bootstrap runs what is to be done, in order, once at a time; stopped or killed anywhere it goes on."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import patience
from k8s import bootstrap as module
from k8s.bootstrap import Ask, BootstrapError, Processes, Step, Stopped, bootstrap, steps
from k8s.errors import Unavailable

WHOLE = ["data", "features", "train", "evaluate", "publish"]
END_S = 30.0
"""Seconds after which a process that should end counts as hanging."""


class Killed(BaseException):
    """The process of the bootstrap ends here."""


@dataclass
class World:
    """Steps that leave something behind, a service that remembers, and a call that may be the last: `fuse`
    counts down to it, `after` says whether that call still takes effect."""

    production: str | None = None
    done: set[str] = field(default_factory=set)
    began: list[str] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)
    fuse: int = -1
    after: bool = False

    def run(self, step: Step) -> str:
        self._act(step.name)
        return "s3://bundles/0a1b2c\n" if step.name == "publish" else ""

    def bundle(self) -> str | None:
        return self.production

    def bring(self, bundle: str) -> bool:
        if self.production is not None:
            return False
        self._act("traffic")
        self.production = bundle
        self.brought.append(bundle)
        return True

    def _act(self, name: str) -> None:
        self.began.append(name)
        self.fuse -= 1
        if self.fuse == -1:
            if self.after:
                self._effect(name)
            raise Killed
        self._effect(name)

    def _effect(self, name: str) -> None:
        self.done.add(name)
        if name == "traffic" and self.after:
            self.production = "s3://bundles/0a1b2c"


def silent(_: str) -> None: ...


def test_the_order_and_what_each_step_is_told(tmp_path: Path) -> None:
    found = steps(Ask(tmp_path, "ml-1m", "s3://tables", "s3://bundles"))
    assert [step.name for step in found] == WHOLE
    told = {step.name: step.arguments for step in found}
    assert told["data"][1:5] == ("--dataset", "ml-1m", "--dataset-path", "s3://tables")
    assert told["publish"][1] == "s3://bundles"
    assert all(step.arguments[-2:] == ("--home", str(tmp_path)) for step in found)
    least = steps(Ask(tmp_path, evaluate=False))
    assert [step.name for step in least] == ["data", "features", "train"]
    assert least[0].arguments == ("data", "--home", str(tmp_path))


def test_every_step_is_a_command_with_those_options(tmp_path: Path) -> None:
    for step in steps(Ask(tmp_path, "ml-1m", "s3://tables", "s3://bundles")):
        done = subprocess.run(
            [sys.executable, "-m", "marquee", step.arguments[0], "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert done.returncode == 0
        assert [each for each in step.arguments if each.startswith("--") and each not in done.stdout] == []


def test_it_brings_the_published_bundle_into_service(tmp_path: Path) -> None:
    world, lines = World(), []
    bootstrap(Ask(tmp_path, store="s3://bundles"), world, world.run, lines.append)
    assert world.began == [*WHOLE, "traffic"]
    assert world.production == "s3://bundles/0a1b2c"
    assert "step 3 of 5: train" in lines
    assert lines[-1] == "traffic: all of it goes to s3://bundles/0a1b2c"


def test_where_traffic_exists_only_features_are_looked_after(tmp_path: Path) -> None:
    world, lines = World(production="s3://bundles/old"), []
    ask = Ask(tmp_path, store="s3://bundles")
    bootstrap(ask, world, world.run, lines.append)
    assert (world.began, world.brought) == ([], [])
    assert "s3://bundles/old is in service" in lines[0]
    (tmp_path / "data").mkdir()
    bootstrap(ask, world, world.run, lines.append)
    assert (world.began, world.production) == (["features"], "s3://bundles/old")


def test_traffic_that_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    world, lines = World(), []

    def run(step: Step) -> str:
        if step.name == "publish":
            world.production = "s3://bundles/by-hand"
        return world.run(step)

    bootstrap(Ask(tmp_path, store="s3://bundles"), world, run, lines.append)
    assert world.production == "s3://bundles/by-hand"
    assert "left alone" in lines[-1]


@given(deaths=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8))
def test_killed_at_any_call_any_number_of_times_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[tuple[int, bool]]
) -> None:
    home, world = tmp_path_factory.mktemp("home"), World()
    ask = Ask(home, store="s3://bundles")
    for fuse, after in deaths:
        world.fuse, world.after = fuse, after
        with pytest.raises(Killed) if world.production is None else _nothing():
            bootstrap(ask, world, world.run, silent)
    world.fuse = -1
    bootstrap(ask, world, world.run, silent)
    assert world.done >= {*WHOLE, "traffic"}
    assert world.production == "s3://bundles/0a1b2c"


class _nothing:  # noqa: N801  # reads like a context manager of the standard library
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_an_api_server_that_does_not_answer_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    world, lines, left = World(), [], [Unavailable("no way there"), Unavailable("no way there")]
    bundle = world.bundle

    def look() -> str | None:
        if left:
            raise left.pop()
        return bundle()

    monkeypatch.setattr(world, "bundle", look)
    bootstrap(Ask(tmp_path, store="s3://bundles"), world, world.run, lines.append)
    assert world.production == "s3://bundles/0a1b2c"
    assert len([line for line in lines if "no way there" in line]) == 1
    left.append(Unavailable("no way there"))
    monkeypatch.setattr(module, "API_S", 0.0)
    with pytest.raises(Unavailable):
        bootstrap(Ask(tmp_path, store="s3://bundles"), world, world.run, lines.append)


def test_another_bootstrap_on_the_home_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    world, lines = World(), []
    with (tmp_path / "bootstrap.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def said(line: str) -> None:
            lines.append(line)
            if "waiting" in line:
                fcntl.flock(other, fcntl.LOCK_UN)

        bootstrap(Ask(tmp_path), None, world.run, said)
    assert "waiting for another bootstrap" in lines[0]
    assert world.began == WHOLE[:-1]


def test_one_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_S", 0.0)
    with (tmp_path / "bootstrap.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BootstrapError, match=f"another bootstrap has been at work in {tmp_path}"):
            bootstrap(Ask(tmp_path), None, World().run, silent)


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BootstrapError, match=r"file cannot be written \(.*\): choose another --home"):
        bootstrap(Ask(tmp_path / "file"), None, World().run, silent)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of `marquee`: its first argument is what it runs."""
    script = tmp_path / "program.py"
    script.write_text("import sys; exec(sys.argv[1])")
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, str(script)))
    return script


def test_what_publish_prints_is_returned(program: Path) -> None:
    assert Processes().run(Step("publish", ("print('url')",))) == "url\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit(3)", r"^bootstrap stopped at train: exit status 3, its reason is above; run it again"),
        ("import os; os.kill(os.getpid(), 9)", r"at train: it was killed \(SIGKILL\).*limits\.memory"),
        ("import os; os.kill(os.getpid(), 15)", r"at train: ended by SIGTERM"),
    ],
)
def test_a_failure_names_its_step_and_how_it_ended(program: Path, code: str, said: str) -> None:
    with pytest.raises(BootstrapError, match=said):
        Processes().run(Step("train", (code,)))


@pytest.fixture
def unhandled() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("unhandled")
def test_asked_to_stop_it_asks_its_step_and_waits_for_it(program: Path, tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    code = (
        "import pathlib, signal, time\n"
        f"def stop(*_): time.sleep(0.2); pathlib.Path({str(ended)!r}).touch(); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, stop); pathlib.Path({str(began)!r}).touch(); time.sleep(60)"
    )

    def ask() -> None:
        _until(began.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    processes = Processes()
    with processes.stoppable():
        thread = threading.Thread(target=ask)
        thread.start()
        with pytest.raises(Stopped):
            processes.run(Step("train", (code,)))
        thread.join()
    assert ended.exists()


def test_a_killed_bootstrap_takes_its_step_along_and_keeps_the_home_until_then(
    program: Path, tmp_path: Path
) -> None:
    """What is killed here is a process that runs `bootstrap`; its step notes its own id and that it ended."""
    note, ended = tmp_path / "note", tmp_path / "ended"
    step = (
        "import os, pathlib, signal, time\n"
        f"def stop(*_): time.sleep(0.5); pathlib.Path({str(ended)!r}).touch(); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, stop); pathlib.Path({str(note)!r}).write_text('x'); time.sleep(60)"
    )
    script = (
        "import pathlib, sys; from k8s import bootstrap as b\n"
        f"b.PROGRAM = {module.PROGRAM!r}; home = pathlib.Path({str(tmp_path)!r})\n"
        f"b.steps = lambda ask: [b.Step('train', ({step!r},))]\n"
        "b.bootstrap(b.Ask(home), None, b.Processes().run, lambda line: None)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        _until(note.exists)
        process.kill()
    world = World()
    bootstrap(Ask(tmp_path), None, world.run, silent)
    assert ended.exists(), "the next bootstrap waited until the step of the killed one had ended"
    assert world.began == WHOLE[:-1]


def _until(true: object) -> None:
    assert callable(true)
    end = time.monotonic() + END_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
