"""What we use of Feast: the one module that imports it, and it does so without Feast's run-time type checks.

Feast decorates its definitions with `typeguard.typechecked`, which parses and compiles them again at import:
3.7 of 11 s of CPU here, in every process. Our definitions are generated and our checks are static.
"""

from __future__ import annotations

from typing import Any

import typeguard


def _as_written(target: Any) -> Any:
    return target


_checked = typeguard.typechecked
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
