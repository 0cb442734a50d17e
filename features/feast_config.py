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
    store = FeatureStore(config=configuration(redis, directory, registry))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental", RuntimeWarning)
        store.apply(definitions(schema))
    return store


def configuration(redis: str | None, directory: Path = Path(), registry: Path | None = None) -> RepoConfig:
    """Feast's configuration; of the arguments, see `feature_store`. Reading or writing through Feast's online
    store alone touches neither the directory nor the registry."""
    quieten()
    return RepoConfig(
        project=PROJECT,
        provider="local",
        # 0: the registry is read once. A refresh would be a pause in the middle of serving.
        registry=RegistryConfig(path=str(registry or directory / "registry.db"), cache_ttl_seconds=0),
        online_store=RedisOnlineStoreConfig(connection_string=redis) if redis else None,
        offline_store={"type": "dask"},
        repo_path=directory,
        entity_key_serialization_version=ENTITY_KEY_VERSION,
    )


def quieten() -> None:
    """Feast logs routine work as warnings; errors still come through."""
    logging.getLogger("feast").setLevel(logging.ERROR)
