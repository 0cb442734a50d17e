import shutil
from pathlib import Path

import pytest

from loadtests.bench import inputs
from loadtests.bench.inputs import World
from loadtests.bench.rounds import QUICK
from loadtests.bench.suites import peers
from serving.config import ServeConfig
from serving.http.schemas import RecommendationRequest, bounds


@pytest.fixture
def world(bundle_dir: Path, tmp_path: Path) -> World:
    return World(bundle_dir.parents[1], bundle_dir, tmp_path)


def test_without_wrk_the_suite_is_skipped_with_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    section = peers.run(QUICK, world)
    assert "wrk" in section.skipped
    assert not section.tables
    assert not list(world.work.iterdir())


def test_marquee_takes_every_request(world: World) -> None:
    within = bounds(ServeConfig(bundle="bundle"))
    for line in inputs.bodies(world, 500).read_text().splitlines():
        RecommendationRequest.parse(line.encode(), within)
