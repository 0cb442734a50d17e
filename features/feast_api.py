"""What we use of Feast: the one module that imports it, and it does so without three side effects of that.

- Feast decorates its definitions with `typeguard.typechecked`, which parses and compiles them again: 3.7 of
  11 s of CPU here, in every process. Our definitions are generated and our checks are static.
- Feast's metrics switch prometheus_client to files of their own by setting PROMETHEUS_MULTIPROC_DIR, for
  everybody in the process who imports prometheus_client afterwards.
- Feast imports torch wherever it is installed, to offer training sets as tensors, which nobody asks it for:
  140 MB and 3 s in every replica, which computes with numpy.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import prometheus_client  # noqa: F401 - before Feast, so that it keeps the mode this process was given
import typeguard

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def _as_written(target: Any) -> Any:
    return target


_checked, _metrics_given = typeguard.typechecked, _METRICS in os.environ
typeguard.typechecked = _as_written  # type: ignore[assignment]  # it is overloaded; Feast uses one form
_torch_hidden = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]  # None: not to be had
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
    typeguard.typechecked = _checked
    if not _metrics_given:
        os.environ.pop(_METRICS, None)
    if _torch_hidden:
        del sys.modules["torch"]

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
