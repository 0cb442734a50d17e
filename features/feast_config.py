"""How Feast is set up here: its configuration in Python, its registry, its silence.

No `feature_store.yaml`: a second source of truth would drift from the schema. Feast 0.67 has no telemetry.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from features.definitions import PROJECT, definitions
from features.feast_api import FeatureStore, RedisOnlineStoreConfig, RegistryConfig, RepoConfig
from features.schema import FeatureSchema

ENTITY_KEY_VERSION = 3
"""Feast's serialisation of entity keys in Redis; another version would not find the rows."""


def feature_store(
    schema: FeatureSchema, directory: Path, redis: str | None = None, registry: Path | None = None
) -> FeatureStore:
    """A Feast store with the schema's definitions applied.

    Args:
        directory: holds the offline log, and the registry unless `registry` says another place.
        redis: Feast's connection string; None where only the offline side is used.
    """
    quieten()
    online = RedisOnlineStoreConfig(connection_string=redis) if redis else None
    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            # 0: the registry is read once. A refresh would be a pause in the middle of serving.
            registry=RegistryConfig(path=str(registry or directory / "registry.db"), cache_ttl_seconds=0),
            online_store=online,
            offline_store={"type": "dask"},
            repo_path=directory,
            entity_key_serialization_version=ENTITY_KEY_VERSION,
        )
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental", RuntimeWarning)
        store.apply(definitions(schema))
    return store


def quieten() -> None:
    """Feast logs routine work as warnings; errors still come through."""
    logging.getLogger("feast").setLevel(logging.ERROR)
