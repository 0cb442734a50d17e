import json
from pathlib import Path

import pyarrow as pa
import pytest
from redis import Redis

from loadtests import traffic
from loadtests.bench import inputs
from loadtests.bench.inputs import NoWorld, World
from serving.config import ServeConfig
from serving.expressions import CatalogueFilter
from serving.http.schemas import RecommendationRequest, bounds
from training.bundle import read_bundle


@pytest.fixture
def world(bundle_dir: Path, tmp_path: Path) -> World:
    return inputs.world(bundle_dir.parents[1], tmp_path, False, lambda _: None)


def test_a_home_gives_its_newest_bundle(world: World, bundle_dir: Path) -> None:
    assert world.bundle.samefile(bundle_dir)


def test_a_full_run_without_a_bundle_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoWorld, match="make bench"):
        inputs.world(tmp_path / "none", tmp_path, False, lambda _: None)


@pytest.mark.slow
def test_a_quick_run_without_a_bundle_trains_a_small_one(tmp_path: Path) -> None:
    said: list[str] = []
    world = inputs.world(tmp_path / "none", tmp_path, True, said.append)
    assert read_bundle(str(world.bundle)).manifest.version == world.bundle.name
    assert len(inputs.user_ids(world)) == inputs.TINY["users"]
    assert said


def test_redis_holds_the_features_and_the_home_stays_as_it_was(world: World) -> None:
    before = sorted(world.home.rglob("*"))
    with inputs.redis(world) as url, Redis.from_url(url) as client:
        assert client.dbsize() > inputs.TINY["users"]
    assert sorted(world.home.rglob("*")) == before


def test_bodies_are_requests_for_the_world(world: World) -> None:
    path = inputs.bodies(world, 50, traffic.Mix(filtered=1.0, visitors=0.5))
    bundle, users = read_bundle(str(world.bundle)), set(inputs.user_ids(world))
    rules, within = CatalogueFilter(bundle.catalogue), bounds(ServeConfig(bundle="any"))
    lines = path.read_text().splitlines()
    assert len(lines) == 50
    for line in lines:
        request = RecommendationRequest.parse(line.encode(), within)
        assert request.user_id is None or request.user_id in users
        assert rules.mask(request.filter).any()
    assert inputs.bodies(world, 50, traffic.PLAIN) != path
    assert json.loads(lines[0])


def test_filters_fit_the_columns_there_are() -> None:
    items = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "tags": [["x"], ["x", "y"], None],
            "price": [1.0, None, 3.0],
            "empty": pa.array([None, None, None], pa.int32()),
            "when": pa.array([1, 2, 3], pa.timestamp("s")),
        }
    )
    assert inputs.filters(items) == [
        {"tags": {"any": ["x"]}},
        {"tags": {"any": ["y"]}},
        {"price": {"gte": 1.0}},
    ]
