"""The Dockerfile, read and not built, so that it needs no container engine; `make image` builds it.

So is that of the Triton server which a test of a cluster uses; .ci/run builds it.
"""

import fnmatch
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from k8s.image import TOOLS

ROOT = Path(__file__).resolve().parents[2]
FINAL = ["cpu", "cuda"]
DOCKERFILES = ["Dockerfile", "tests/cluster/triton/Dockerfile"]
BUILD_TOOLS = re.compile(
    r"\b(apt-get|build-essential|gcc|clang|cmake|cargo|git|pip install|pip wheel)\b|-dev\b"
)


@dataclass(frozen=True)
class Stage:
    """Attributes:
    base: an image, or the name of an earlier stage.
    steps: (instruction, arguments) in order.
    """

    name: str
    base: str
    steps: list[tuple[str, str]]


def read(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile, arguments declared before the first one put in."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    given: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for line in filter(str.strip, joined.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            stage = Stage(name, re.sub(r"\$\{(\w+)\}", lambda found: given[found[1]], base), [])
            stages[name] = stage
        elif stages:
            stage.steps.append((instruction, rest.strip()))
        else:
            assert instruction == "ARG", line
            given.update([rest.split("=", 1)])
    return stages


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return read((ROOT / "Dockerfile").read_text())


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those it is built on, the oldest first: all whose files end up in it."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def steps(stages: dict[str, Stage], name: str, instruction: str) -> list[str]:
    return [given for stage in lineage(stages, name) for what, given in stage.steps if what == instruction]


def test_bases_are_pinned_by_tag(stages: dict[str, Stage]) -> None:
    bases = {stage.base for stage in stages.values()} - stages.keys()
    assert bases
    for base in bases:
        name, _, tag = base.partition(":")
        assert re.match(r"\d+\.\d+\.\d+", tag), f"{name} is not pinned to a whole version: {tag!r}"


def test_all_are_built_on_one_python() -> None:
    """.ci/run makes that of the first, and none is pulled."""
    found = [read((ROOT / path).read_text()) for path in DOCKERFILES]
    bases = {stage.base for stages in found for stage in stages.values() if stage.base not in stages}
    assert len(bases) == 1


def test_the_python_is_one_that_the_project_supports(stages: dict[str, Stage]) -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    least = tuple(map(int, requires.removeprefix(">=").split(".")))
    for stage in stages.values():
        if stage.base.startswith("python:"):
            assert tuple(map(int, stage.base.removeprefix("python:").split(".")[:2])) >= least


@pytest.mark.parametrize("target", FINAL)
def test_a_final_stage_has_no_build_tools(stages: dict[str, Stage], target: str) -> None:
    for run in steps(stages, target, "RUN"):
        assert not BUILD_TOOLS.search(run), run
    assert any("pip uninstall" in run for run in steps(stages, target, "RUN"))


def test_the_search_for_build_tools_finds_them(stages: dict[str, Stage]) -> None:
    assert any(BUILD_TOOLS.search(run) for run in steps(stages, "builder", "RUN"))


@pytest.mark.parametrize("target", FINAL)
def test_a_final_stage_runs_as_uid_1000(stages: dict[str, Stage], target: str) -> None:
    assert steps(stages, target, "USER")[-1] == "1000:1000"
    assert any("--uid 1000" in run for run in steps(stages, target, "RUN"))


def test_final_stages_differ_in_where_the_environment_was_built(stages: dict[str, Stage]) -> None:
    copies = [steps(stages, target, "COPY") for target in FINAL]
    assert copies == [[f"--from=built-{target} /opt/marquee /opt/marquee"] for target in FINAL]
    assert len({stages[target].base for target in FINAL}) == 1
    built = [stages[f"built-{target}"].steps for target in FINAL]
    assert [what for what, _ in built[0]] == [what for what, _ in built[1]]


@pytest.mark.parametrize("target", FINAL)
def test_python_ray_and_marquee_are_on_path(stages: dict[str, Stage], target: str) -> None:
    assert any("PATH=/opt/marquee/bin:$PATH" in env for env in steps(stages, target, "ENV"))
    assert not steps(stages, target, "ENTRYPOINT"), "KubeRay sets the command itself"


def ignored(path: str) -> bool:
    """By .dockerignore: the last pattern that fits a path, or a folder above it, decides."""
    out = False
    parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if any(fnmatch.fnmatch(f"/{part}", f"/{pattern.replace('**/', '*/')}") for part in parents):
            out = not line.startswith("!")
    return out


def sources(stages: dict[str, Stage]) -> list[str]:
    """What is copied out of the repository."""
    copies = [given.split() for stage in stages.values() for what, given in stage.steps if what == "COPY"]
    return [source for copy in copies if not copy[0].startswith("--from=") for source in copy[:-1]]


@pytest.mark.parametrize("path", DOCKERFILES)
def test_every_copied_path_exists_and_is_not_ignored(path: str) -> None:
    copied = sources(read((ROOT / path).read_text()))
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


def test_every_package_is_copied(stages: dict[str, Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in packages} <= set(sources(stages))


NOT_IN_THE_IMAGE = ["tests/chart", ".git/config", ".marquee/x", ".venv/bin/python", "serving/__pycache__/a"]


@pytest.mark.parametrize("path", NOT_IN_THE_IMAGE)
def test_what_the_image_does_not_need_stays_out(path: str) -> None:
    assert ignored(path)


def test_everything_installed_is_pinned(stages: dict[str, Stage]) -> None:
    """Either by constraints.txt, or it is the wheel of this project, alone."""
    runs = [given for stage in stages.values() for what, given in stage.steps if what == "RUN"]
    parts = [part for run in runs for part in run.split("&&") if "uninstall" not in part]
    installs = [part for part in parts if re.search(r"\bpip\b.* (install|wheel) ", part)]
    assert installs
    for install in installs:
        assert "-c constraints.txt" in install or "--no-deps" in install, install


def test_the_extra_that_the_image_installs_exists_and_is_pinned(stages: dict[str, Stage]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [run] = [run for run in steps(stages, "builder", "RUN") if "optional-dependencies" in run]
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert "['cluster']" in run
    assert set(extras["cluster"]) <= pinned


@pytest.mark.parametrize("target", FINAL)
def test_tools_are_taken_out_before_the_wheel_and_the_rest_is_checked_after_it(
    stages: dict[str, Stage], target: str
) -> None:
    steps = stages[f"built-{target}"].steps
    install, prune, wheel = [given for what, given in steps if what == "RUN"]
    assert "-r requirements.txt" in install
    assert prune.endswith("python /image.py prune /opt/marquee")
    assert wheel.endswith("/wheel/*.whl && python /image.py check /opt/marquee")
    # Mounted they would not count: buildah would keep the layer that an earlier source made.
    copied = [given for what, given in steps if what == "COPY"]
    assert copied == ["k8s/image.py /image.py", "--from=wheel /wheel /wheel"]
    assert "--mount" not in prune + wheel


def test_every_tool_that_is_taken_out_would_be_installed() -> None:
    """One that nobody asks for any more is a line too many."""
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    asked = {name.replace("_", "-") for name in TOOLS} - {"setuptools"}  # which `pip freeze` leaves out
    assert asked <= {name.replace("_", "-").lower() for name in pinned}
