"""Feast's definitions follow the schema; its on-demand view is our transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from features.definitions import USER_CONTEXT, views
from features.feast_config import feature_store
from features.materialize import materialize
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.schema import FeatureSchema
from features.transforms import CONTEXT_NAMES, context
from tests.features.worlds import START, events, films


def test_every_feature_is_in_exactly_one_view() -> None:
    schema = films().schema
    named = [feature.name for _, features in views(schema).values() for feature in features]
    assert sorted(named) == sorted(feature.name for feature in (*schema.user, *schema.item))


def test_feast_knows_types_descriptions_and_services(tmp_path: Path) -> None:
    schema = films().schema
    store = feature_store(schema, tmp_path)
    views_of = {view.name: view for view in store.list_feature_views()}
    for name in ("user_row", "item_row"):
        assert [(f.name, str(f.dtype)) for f in views_of.pop(name).features] == [("packed", "Bytes")]
    fields = {field.name: field for view in views_of.values() for field in view.features}
    assert set(fields) == {feature.name for feature in (*schema.user, *schema.item)}
    assert str(fields["history_items"].dtype) == "Array(String)"
    assert fields["user_events"].description == "events so far"
    services = {service.name for service in store.list_feature_services()}
    assert services == {"user_online", "item_online", "user_training", "item_training", "user_context"}
    assert {source.name for source in store.list_data_sources()} >= {
        "user_state_push",
        "user_history_push",
        "item_state_push",
        "user_row_push",
        "item_row_push",
    }


def test_tables_without_columns_have_no_profile_view(tmp_path: Path) -> None:
    users, items = pa.table({"user_id": ["u"]}), pa.table({"item_id": ["i"]})
    schema = FeatureSchema.infer(events([("u", "i", 1.0, START)]), items, users)
    assert set(views(schema)) == {"user_state", "user_history", "item_state"}
    feature_store(schema, tmp_path).get_feature_service("user_online")


def test_context_on_demand_is_the_transform(tmp_path: Path, redis_url: str) -> None:
    world = films()
    schema = world.schema
    store = feature_store(schema, tmp_path, connection_string(redis_url, WRITE_TIMEOUT_S))
    users, items = world.rows(schema)
    materialize(store, schema, users, items, redis_url, "v")
    now = float(START + 100 * 86_400 + 12_345)
    answer = store.get_online_features(
        store.get_feature_service(USER_CONTEXT), {"user_id": ["u1", "u2", "nobody"], "now": [now] * 3}
    ).to_dict()
    last = np.array([users.newest[1], users.newest[2], np.nan])
    expected = context(np.full(3, now), last)
    for name in CONTEXT_NAMES:
        np.testing.assert_array_equal(np.array(answer[name], np.float32), expected[name], name)


def test_the_registry_refers_to_our_function_and_holds_no_code(tmp_path: Path) -> None:
    feature_store(films().schema, tmp_path)
    assert b"features.definitions" in (tmp_path / "registry.db").read_bytes()
