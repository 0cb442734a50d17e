"""Feast's entities, views, push sources and services, generated from the schema. Nothing is written by hand.

    view           entity  offline (Parquet)                    online
    user_state     user    a row after each event               the newest; live events push here
    user_history   user    the newest row only                  the newest; live events push here
    user_profile   user    the users table, valid from 1970     likewise
    item_state     item    a row after each event               the newest; live events push here
    item_profile   item    the items table, valid from 1970     likewise
    context        user    computed on demand by `transforms.context`
    user_row       user    nothing                              all of the above, packed: what serving reads
    item_row       item    nothing                              likewise

A packed row repeats the other views of its entity in one value (`features.packed`), so what writes those
writes it too (`materialize.write_rows`).

Views carry no TTL: Feast enforces it offline and ignores it online, which would make the two sides differ.
Ages are for the reader to judge (`Feature.ttl_s`, `FeatureBatch.age_s`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from types import FunctionType
from typing import Any

import numpy as np

from features.feast_api import (
    Array,
    Bytes,
    Entity,
    FeastType,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Float64,
    Int64,
    OnDemandFeatureView,
    PushSource,
    PythonTransformation,
    RequestSource,
    String,
    ValueType,
)
from features.schema import EVENT_TIME, HISTORY_KINDS, ITEM_ID, USER_ID, Feature, FeatureSchema, Kind
from features.statistics import State
from features.transforms import CONTEXT_NAMES, USER_LAST_EVENT, context, item_statistics, user_statistics

PROJECT = "marquee"
"""Feast's project: part of every key in Redis."""

USER_STATE, USER_HISTORY, USER_PROFILE = "user_state", "user_history", "user_profile"
ITEM_STATE, ITEM_PROFILE, CONTEXT = "item_state", "item_profile", "context"
USER_ROW, ITEM_ROW, PACKED = "user_row", "item_row", "packed"
PUSHED = (USER_STATE, USER_HISTORY, ITEM_STATE, USER_ROW, ITEM_ROW)

USER_ONLINE, ITEM_ONLINE, USER_CONTEXT = "user_online", "item_online", "user_context"
USER_TRAINING, ITEM_TRAINING = "user_training", "item_training"

DTYPES: dict[Kind, FeastType] = {
    Kind.NUMBER: Float32,
    Kind.TIME: Float64,
    Kind.CATEGORY: String,
    Kind.TEXT: String,
    Kind.CATEGORIES: Array(String),
    Kind.IDS: Array(String),
    Kind.NUMBERS: Array(Float32),
    Kind.TIMES: Array(Float64),
    Kind.HASHES: Array(Int64),  # Feast has no unsigned type
}


def views(schema: FeatureSchema) -> dict[str, tuple[str, tuple[Feature, ...]]]:
    """View → (its join key, its features). A table without columns of its own has no profile view."""
    statistics = set(user_statistics(State.empty(0))) | set(item_statistics(State.empty(0)))

    def split(features: tuple[Feature, ...]) -> tuple[tuple[Feature, ...], ...]:
        state = tuple(f for f in features if f.name in statistics)
        history = tuple(f for f in features if f.kind in HISTORY_KINDS)
        return state, history, tuple(f for f in features if f not in state and f not in history)

    user_state, user_history, user_profile = split(schema.user)
    item_state, _, item_profile = split(schema.item)
    named = {
        USER_STATE: (USER_ID, user_state),
        USER_HISTORY: (USER_ID, user_history),
        USER_PROFILE: (USER_ID, user_profile),
        ITEM_STATE: (ITEM_ID, item_state),
        ITEM_PROFILE: (ITEM_ID, item_profile),
    }
    return {name: (key, features) for name, (key, features) in named.items() if features}


def definitions(schema: FeatureSchema) -> list[Any]:
    """Everything `FeatureStore.apply` takes. Paths are relative to the store's directory."""
    made = {name: _view(name, key, map(_field, features)) for name, (key, features) in views(schema).items()}
    rows = [row_view(USER_ID), row_view(ITEM_ID)]
    on_demand = _context_view(made[USER_STATE])
    services = [
        _service(USER_ONLINE, made, USER_STATE, USER_HISTORY, USER_PROFILE),
        _service(ITEM_ONLINE, made, ITEM_STATE, ITEM_PROFILE),
        _service(USER_TRAINING, made, USER_STATE, USER_PROFILE),
        _service(ITEM_TRAINING, made, ITEM_STATE, ITEM_PROFILE),
        FeatureService(name=USER_CONTEXT, features=[on_demand]),
    ]
    return [_entity(USER_ID), _entity(ITEM_ID), *made.values(), *rows, on_demand, *services]


def row_view(key: str) -> FeatureView:
    """The view of an entity's packed rows: one field, `PACKED`. The same whatever the schema."""
    return _view(USER_ROW if key == USER_ID else ITEM_ROW, key, [Field(name=PACKED, dtype=Bytes)])


def _entity(key: str) -> Entity:
    return Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType.STRING)


def _view(name: str, key: str, fields: Iterable[Field]) -> FeatureView:
    source = FileSource(name=f"{name}_log", path=f"{name}.parquet", timestamp_field=EVENT_TIME)
    return FeatureView(
        name=name,
        entities=[_entity(key)],
        schema=[Field(name=key, dtype=String), *fields],
        source=PushSource(name=f"{name}_push", batch_source=source) if name in PUSHED else source,
        ttl=timedelta(0),
        online=True,
    )


def _field(feature: Feature) -> Field:
    tags = {"unit": feature.unit} if feature.unit else {}
    return Field(name=feature.name, dtype=DTYPES[feature.kind], description=feature.description, tags=tags)


def _service(name: str, made: dict[str, FeatureView], *members: str) -> FeatureService:
    return FeatureService(name=name, features=[made[member] for member in members if member in made])


def _context_view(user_state: FeatureView) -> OnDemandFeatureView:
    """Built without Feast's decorator, which would store the function's code: Feast runs the text that the
    registry holds, and this one only names the function."""
    assert isinstance(context_columns, FunctionType)
    request = RequestSource(name="moment", schema=[Field(name="now", dtype=Float64)])
    return OnDemandFeatureView(
        name=CONTEXT,
        sources=[request, user_state[[USER_LAST_EVENT]]],
        schema=[Field(name=name, dtype=Float64) for name in CONTEXT_NAMES],  # what Feast infers of floats
        feature_transformation=PythonTransformation(
            udf=context_columns, udf_string="from features.definitions import context_columns"
        ),
        mode="python",
    )


def context_columns(inputs: dict[str, Any]) -> dict[str, Any]:
    """`transforms.context` in the form Feast calls it: lists in, lists out, None for what is missing."""
    last = [np.nan if value is None else value for value in inputs[USER_LAST_EVENT]]
    values = context(np.asarray(inputs["now"], np.float64), np.asarray(last, np.float64))
    return {name: value.tolist() for name, value in values.items()}
