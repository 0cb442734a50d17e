"""What we use of Feast: the one module that imports it, and it does so without two side effects of that.

- Feast decorates its definitions with `typeguard.typechecked`, which parses and compiles them again: 3.7 of
  11 s of CPU here, in every process. Our definitions are generated and our checks are static.
- Feast's metrics switch prometheus_client to files of their own by setting PROMETHEUS_MULTIPROC_DIR, for
  everybody in the process who imports prometheus_client afterwards.
"""

from __future__ import annotations

import os
from typing import Any

import prometheus_client  # noqa: F401 - before Feast, so that it keeps the mode this process was given
import typeguard

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def _as_written(target: Any) -> Any:
    return target


_checked, _metrics_given = typeguard.typechecked, _METRICS in os.environ
typeguard.typechecked = _as_written  # type: ignore[assignment]  # it is overloaded; Feast uses one form
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
    from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.repo_config import RegistryConfig, RepoConfig
    from feast.transformation.python_transformation import PythonTransformation
    from feast.types import Array, FeastType, Float32, Float64, String
finally:
    typeguard.typechecked = _checked
    if not _metrics_given:
        os.environ.pop(_METRICS, None)

__all__ = [
    "Array",
    "Entity",
    "FeastType",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "Field",
    "FileSource",
    "Float32",
    "Float64",
    "OnDemandFeatureView",
    "PushSource",
    "PythonTransformation",
    "RedisOnlineStore",
    "RedisOnlineStoreConfig",
    "RegistryConfig",
    "RepoConfig",
    "RequestSource",
    "String",
    "ValueType",
]
