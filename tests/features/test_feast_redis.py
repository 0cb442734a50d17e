"""The shortened steps give what Feast's own give."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.feast_api import EntityKey, RedisOnlineStore, Value
from features.feast_config import configuration
from features.feast_redis import PackedRedisOnlineStore

CONFIG = configuration("localhost:6379")
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(IDS, min_size=1, max_size=5), st.sampled_from(["user_id", "item_id"]))
def test_keys_are_feasts_keys(ids: list[str], key: str) -> None:
    keys = [EntityKey(join_keys=[key], entity_values=[Value(string_val=one)]) for one in ids]
    ours = PackedRedisOnlineStore()._generate_redis_keys_for_entities(CONFIG, keys)
    assert ours == RedisOnlineStore()._generate_redis_keys_for_entities(CONFIG, keys)


@given(st.lists(st.none() | st.binary(max_size=40), max_size=5))
def test_values_are_feasts_values(values: list[bytes | None]) -> None:
    replies = [(None if v is None else Value(bytes_val=v).SerializeToString(), None) for v in values]
    fields = ["packed", "_ts:user_row"]
    ours = PackedRedisOnlineStore()._convert_redis_values_to_protobuf(replies, "user_row", list(fields))
    feasts = RedisOnlineStore()._convert_redis_values_to_protobuf(replies, "user_row", list(fields))
    assert [features for _, features in ours] == [features for _, features in feasts]


def test_what_is_no_value_is_an_error() -> None:
    from google.protobuf.message import DecodeError

    with pytest.raises(DecodeError):
        PackedRedisOnlineStore()._convert_redis_values_to_protobuf(
            [(struct.pack("<I", 0xFFFFFFFF), None)], "user_row", ["packed", "_ts:user_row"]
        )
