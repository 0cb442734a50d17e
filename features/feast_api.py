"""What is used of Feast: the one module that imports it, without a change to prometheus_client's mode."""

from __future__ import annotations

import os

import prometheus_client  # noqa: F401 - before Feast, so that it keeps the mode this process was given

# Feast imports its metrics, which set this variable: later importers of prometheus_client would write files.
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_given = _METRICS in os.environ
try:
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        PushSource,
        RequestSource,
        ValueType,
    )
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix
    from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.repo_config import RegistryConfig, RepoConfig
    from feast.transformation.python_transformation import PythonTransformation
    from feast.types import Array, Bytes, FeastType, Float32, Float64, Int64, String
finally:
    if not _given:
        os.environ.pop(_METRICS, None)

__all__ = [
    "Array",
    "Bytes",
    "Entity",
    "EntityKey",
    "FeastType",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "Field",
    "FileSource",
    "Float32",
    "Float64",
    "Int64",
    "OnDemandFeatureView",
    "PushSource",
    "PythonTransformation",
    "RedisOnlineStore",
    "RedisOnlineStoreConfig",
    "RegistryConfig",
    "RepoConfig",
    "RequestSource",
    "String",
    "Value",
    "ValueType",
    "serialize_entity_key_prefix",
]
