from pathlib import Path

import pytest

from loadtests.bench.peers import environments
from loadtests.bench.peers.environments import NoEnvironment, environment, requirements

pytestmark = pytest.mark.slow

NAMES = ("bentoml", "triton")


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_pinned(name: str) -> None:
    lines = [line for line in requirements(name).read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all("==" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_said_and_not_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoEnvironment, match="a full run makes it"):
        environment(name, make=False, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_half_made_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "requirements.txt"
    wrong.write_text("no such requirement ==\n")
    monkeypatch.setattr(environments, "requirements", lambda name: wrong)
    with pytest.raises(NoEnvironment, match="ERROR"):
        environment("wrong", make=True, folder=tmp_path / "made")
    assert [path.name for path in (tmp_path / "made").iterdir()] == [".gitignore"]


def test_a_changed_list_is_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = tmp_path / "requirements.txt"
    pinned.write_text("")
    monkeypatch.setattr(environments, "requirements", lambda name: pinned)
    first = environment("empty", make=True, folder=tmp_path / "made")
    assert first.exists()
    assert environment("empty", make=False, folder=tmp_path / "made") == first
    pinned.write_text("# changed\n")
    with pytest.raises(NoEnvironment):
        environment("empty", make=False, folder=tmp_path / "made")
