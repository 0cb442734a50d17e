"""The schema as a value: its JSON, its fingerprint, its inputs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from features.schema import FORMAT, FeatureSchema, SchemaError
from tests.features.worlds import films


def test_json_reads_back_equal_with_the_same_fingerprint() -> None:
    schema = films().schema
    again = FeatureSchema.from_json(schema.to_json())
    assert again == schema
    assert again.fingerprint() == schema.fingerprint()
    assert len(schema.fingerprint()) == 64


def test_any_change_changes_the_fingerprint() -> None:
    schema = films().schema
    first = schema.user[0]
    changed = [
        replace(schema, user=schema.user[::-1]),
        replace(schema, user=(replace(first, mean=first.mean + 1e-9), *schema.user[1:])),
        replace(schema, item=schema.item[:-1]),
    ]
    assert len({schema.fingerprint(), *(other.fingerprint() for other in changed)}) == 4


def test_widths_count_the_inputs() -> None:
    schema = films().schema
    assert schema.user_width == len(schema.user_inputs) == 5 + 1 + 2
    assert schema.item_width == len(schema.item_inputs) == 4 + 1 + 3
    assert schema.context_width == 5
    assert "genres=Drama" in schema.item_inputs
    assert "occupation=nurse" in schema.user_inputs
    assert not {"title", "zip_code", "history_items", "user_last_event_at"} & {
        *schema.user_inputs,
        *schema.item_inputs,
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "user": [{}]}'])
def test_what_is_not_a_schema_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(SchemaError, match="marquee features"):
        FeatureSchema.from_json(text)


def test_another_format_is_refused() -> None:
    raw = {**json.loads(films().schema.to_json()), "format": FORMAT + 1}
    with pytest.raises(SchemaError, match="format"):
        FeatureSchema.from_json(json.dumps(raw))
