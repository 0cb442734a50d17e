"""The reference for what serving reads: `get_online_features` over the separate features, value by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.feast_config import feature_store
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.schema import ITEM_ID, USER_ID, Feature, FeatureSchema, Kind
from features.store import Column
from features.transforms import column

EXTRACT: dict[Kind, Callable[[Any], Any]] = {
    Kind.NUMBER: lambda value: value.float_val,
    Kind.TIME: lambda value: value.double_val,
    Kind.CATEGORY: lambda value: value.string_val,
    Kind.TEXT: lambda value: value.string_val,
    Kind.CATEGORIES: lambda value: list(value.string_list_val.val),
    Kind.IDS: lambda value: list(value.string_list_val.val),
    Kind.NUMBERS: lambda value: value.float_list_val.val,
    Kind.TIMES: lambda value: value.double_list_val.val,
    Kind.HASHES: lambda value: value.int64_list_val.val,
}


def plain_read(
    schema: FeatureSchema, url: str, key: str, ids: Sequence[str], directory: Path
) -> tuple[np.ndarray, dict[str, Column]]:
    """Which rows there are, bool [n], and the columns, of users (`key` is `USER_ID`) or items."""
    store = feature_store(schema, directory, connection_string(url, WRITE_TIMEOUT_S))
    features: tuple[Feature, ...] = {USER_ID: schema.user, ITEM_ID: schema.item}[key]
    service = store.get_feature_service({USER_ID: "user_online", ITEM_ID: "item_online"}[key])
    answer = store.get_online_features(service, {key: list(ids)}).proto
    names = answer.metadata.feature_names.val
    values = {name: result.values for name, result in zip(names, answer.results, strict=True)}
    # Feast calls a missing value PRESENT; what tells is that every row has its first statistic, the count.
    found = np.array([bool(value.WhichOneof("val")) for value in values[features[0].name]], bool)
    return found, {
        feature.name: column(
            feature,
            [EXTRACT[feature.kind](v) if v.WhichOneof("val") else None for v in values[feature.name]],
        )
        for feature in features
    }
