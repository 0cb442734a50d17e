"""What all tests share: hypothesis must not judge a shared machine's speed, and one small bundle."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("marquee", deadline=None)
settings.load_profile("marquee")


class OneCluster(LoadScopeScheduling):
    """All of `e2e` on one worker: it shares a cluster, and Rays that start at once on two cores take longer
    than Ray waits. What xdist has for this (marks of a group) does nothing with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return "e2e" if nodeid.startswith("tests/e2e/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneCluster:
    return OneCluster(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make serve` trains, so it goes first: other trainings are tested last, and two at once on two cores
    took over five minutes each instead of two."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/e2e/test_readme.py"))


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<home>/bundles/<version>`, trained in this process on a small synthetic world whose tables lie in
    `<home>/data`."""
    from features.progress import silent
    from features.schema import FeatureSchema
    from training.data.prepare import Request, World, prepare
    from training.data.tables import Tables
    from training.loop import Worker
    from training.loop import train as fit
    from training.recipe import default
    from training.train import train

    home = tmp_path_factory.mktemp("home")
    world = World(users=300, items=200, interactions=8_000, seed=1)
    prepare(Request("synthetic", None, world), home, progress=silent)
    tables = Tables.read(home / "data")
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    trained = train(
        home,
        schema,
        inputs="tests",
        recipe=default().with_options("two_tower", epochs=1),
        fit=lambda inputs, recipe, _: fit(inputs, recipe, Worker(), None, lambda *_: None),
        said=lambda _: None,
    )
    return trained.directory
