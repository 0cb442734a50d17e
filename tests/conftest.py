"""What all tests share: hypothesis must not judge a shared machine's speed, and one small bundle."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("marquee", deadline=None)
settings.load_profile("marquee")

E2E = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of `e2e` on one worker of xdist: it shares a cluster, and two would be too much for a machine."""
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<home>/bundles/<version>`, trained in this process on a small synthetic world whose tables lie in
    `<home>/data`."""
    from features.schema import FeatureSchema
    from training.data.manifest import silent
    from training.data.prepare import Request, World, prepare
    from training.data.tables import Tables
    from training.loop import Worker
    from training.loop import train as fit
    from training.recipe import Recipe
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
        recipe=Recipe(epochs=1),
        fit=lambda inputs, recipe, _: fit(inputs, recipe, Worker(), None, lambda *_: None),
        said=lambda _: None,
    )
    return trained.directory
