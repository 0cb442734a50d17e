import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests.bench import cli, report
from loadtests.bench.inputs import World
from loadtests.bench.result import Section
from loadtests.bench.rounds import Effort
from tests.loadtests.bench import results

Suite = Callable[[Effort, World], Section]


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Suite]:
    """Suites by name; what is put in here is what the command finds."""

    class Suites(dict[str, Suite]):
        def __setitem__(self, name: str, run: Suite) -> None:
            module = types.ModuleType(f"suite_{name}")
            module.run = run  # type: ignore[attr-defined]  # made here, unknown to the type
            monkeypatch.setitem(sys.modules, module.__name__, module)
            monkeypatch.setitem(cli.SUITES, name, module.__name__)

    monkeypatch.setattr(cli, "SUITES", {})
    monkeypatch.setattr(cli, "machine", lambda: results.MACHINE)
    return Suites()


def finds(name: str, value: float) -> Suite:
    def run(effort: Effort, world: World) -> Section:
        assert list(world.work.iterdir()) == []
        return results.found(name, value)

    return run


def breaks(effort: Effort, world: World) -> Section:
    raise RuntimeError("it broke")


@pytest.fixture
def home(bundle_dir: Path) -> Path:
    return bundle_dir.parents[1]


def bench(*arguments: object):
    return CliRunner().invoke(cli.app, [str(part) for part in arguments])


def test_all_suites_run_and_are_written(suites: dict[str, Suite], home: Path, tmp_path: Path) -> None:
    suites["one"], suites["two"] = finds("one", 1.0), finds("two", 2.0)
    done = bench("--home", home, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    held = report.read(tmp_path)
    assert list(held) == ["one", "two"]
    assert held["one"].command == "python -m loadtests.bench --only one"
    assert not held["one"].quick
    assert "one: done" in done.output


def test_only_what_is_named_runs_and_the_rest_is_kept(
    suites: dict[str, Suite], home: Path, tmp_path: Path
) -> None:
    suites["one"], suites["two"] = finds("one", 1.0), finds("two", 2.0)
    assert bench("--home", home, "--out", tmp_path).exit_code == 0
    suites["one"], suites["two"] = breaks, finds("two", 22.0)
    assert bench("--home", home, "--out", tmp_path, "--only", "two").exit_code == 0
    held = report.read(tmp_path)
    assert held["one"].section.tables[0].rows == ((1.0,),)
    assert held["two"].section.tables[0].rows == ((22.0,),)


def test_a_suite_that_breaks_is_told_and_the_others_go_on(
    suites: dict[str, Suite], home: Path, tmp_path: Path
) -> None:
    suites["one"], suites["two"] = breaks, finds("two", 2.0)
    done = bench("--home", home, "--out", tmp_path)
    assert done.exit_code == 1
    assert "failed: one" in done.output
    assert "it broke" in done.output
    assert list(report.read(tmp_path)) == ["two"]


def test_a_suite_that_is_skipped_says_why(suites: dict[str, Suite], home: Path, tmp_path: Path) -> None:
    suites["gpu"] = lambda effort, world: Section("gpu", "GPU", "", skipped="no CUDA")
    done = bench("--home", home, "--out", tmp_path, "--quick")
    assert done.exit_code == 0
    assert "skipped, no CUDA" in done.output
    assert report.read(tmp_path)["gpu"].quick


def test_a_quick_run_leaves_docs_alone(
    suites: dict[str, Suite], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites["one"] = finds("one", 1.0)
    monkeypatch.chdir(tmp_path)
    done = bench("--home", home, "--quick")
    assert done.exit_code == 0
    assert list(tmp_path.iterdir()) == []
    written = Path(done.output.split("written to ")[1].strip())
    assert "Quick" in written.read_text()


def test_a_full_run_writes_docs(
    suites: dict[str, Suite], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites["one"] = finds("one", 1.0)
    monkeypatch.chdir(tmp_path)
    assert bench("--home", home).exit_code == 0
    assert list(report.read(tmp_path / "docs")) == ["one"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--only", "none"], "no suite none"), (["--home", "/nowhere"], "make bench")],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    suites: dict[str, Suite], home: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    suites["one"] = breaks
    done = bench("--home", home, "--out", tmp_path, *arguments)
    assert done.exit_code == 1
    assert reason in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_results_of_another_format_are_refused_before_anything_is_measured(
    suites: dict[str, Suite], home: Path, tmp_path: Path
) -> None:
    suites["one"] = breaks
    (tmp_path / report.DATA).write_text("{}")
    done = bench("--home", home, "--out", tmp_path)
    assert done.exit_code == 1
    assert "move it away" in done.output
    assert "it broke" not in done.output


def test_every_suite_has_its_place() -> None:
    assert list(cli.SUITES) == ["peers", "layers", "retrieval", "features", "scale", "gpu"]
