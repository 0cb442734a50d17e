import json
import shutil
from pathlib import Path

import pytest

from loadtests.bench import inputs
from loadtests.bench.rounds import QUICK
from loadtests.bench.suites import peers
from loadtests.bench.world import World
from serving.config import ServeConfig
from serving.schemas import RecommendationRequest, bounds


@pytest.fixture
def world(bundle_dir: Path, tmp_path: Path) -> World:
    return World(bundle_dir.parents[1], bundle_dir, tmp_path)


def test_without_wrk_the_suite_is_skipped_with_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    section = peers.run(QUICK, world)
    assert "wrk" in section.skipped
    assert not section.tables
    assert not list(world.work.iterdir())


def test_everybody_asks_once(world: World) -> None:
    asked = [json.loads(line)["user_id"] for line in peers._everybody(world).read_text().splitlines()]
    assert sorted(asked) == sorted(inputs.user_ids(world))


def test_marquee_takes_every_request_of_every_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ZIPF_BODIES", 500)
    within = bounds(ServeConfig(bundle="bundle"))
    files = (inputs.bodies(world, 500), peers._zipf(world, 0), peers._zipf(world, 1), peers._everybody(world))
    assert len(set(files)) == len(files)
    for file in files:
        for line in file.read_text().splitlines():
            RecommendationRequest.parse(line.encode(), within)
