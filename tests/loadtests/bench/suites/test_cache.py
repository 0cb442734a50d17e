import json
import shutil
from pathlib import Path

import pytest

from loadtests.bench import inputs
from loadtests.bench.rounds import FULL, QUICK
from loadtests.bench.suites import cache
from loadtests.bench.world import World
from serving.config import ServeConfig
from serving.http.schemas import RecommendationRequest, bounds


@pytest.fixture
def world(bundle_dir: Path, tmp_path: Path) -> World:
    return World(bundle_dir.parents[1], bundle_dir, tmp_path)


def test_what_is_left_out_is_left_out_with_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "quick" in cache.run(QUICK, world).skipped
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "wrk" in cache.run(FULL, world).skipped
    assert not list(world.work.iterdir())


def test_everybody_asks_once(world: World) -> None:
    asked = [json.loads(line)["user_id"] for line in cache.everybody(world).read_text().splitlines()]
    assert sorted(asked) == sorted(inputs.user_ids(world))


def test_marquee_takes_every_request_of_every_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "NEW_BODIES", 500)
    within = bounds(ServeConfig(bundle="bundle"))
    files = (cache.partly_new(world, 0, 0.0), cache.partly_new(world, 1, 0.7), cache.everybody(world))
    assert len(set(files)) == len(files)
    for file in files:
        for line in file.read_text().splitlines():
            RecommendationRequest.parse(line.encode(), within)
