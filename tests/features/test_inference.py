"""Columns become features by their types."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from features.inference import MAX_VOCABULARY
from features.schema import Feature, FeatureSchema, Kind, SchemaError
from features.statistics import State
from features.transforms import CONTEXT_NAMES, encode, item_statistics, user_statistics
from tests.features.worlds import START, events, films

N = 200


def infer_items(**columns: pa.Array | list[object]) -> dict[str, Feature]:
    items = pa.table({"item_id": [f"i{i}" for i in range(N)], **columns})
    schema = FeatureSchema.infer(events([("u", "i0", 1.0, START)]), items, pa.table({"user_id": ["u"]}))
    return {feature.name: feature for feature in schema.item}


def test_kinds_follow_types() -> None:
    found = infer_items(
        year=pa.array(range(N), pa.int16()),
        price=pa.array(np.linspace(1, 2, N), pa.float64()),
        new=pa.array([i % 2 == 0 for i in range(N)]),
        colour=["red", "blue"] * (N // 2),
        encoded=pa.array(["x", "y"] * (N // 2)).dictionary_encode(),
        code=[f"c{i}" for i in range(N)],
        title=["Same", "Other"] * (N // 2),
        tags=pa.array([["a", "b"], ["a"]] * (N // 2)),
        released=pa.array([date(2000, 1, 1)] * N),
    )
    kinds = {name: found[name].kind for name in list(found)[5:]}
    assert kinds == {
        "year": Kind.NUMBER,
        "price": Kind.NUMBER,
        "new": Kind.NUMBER,
        "colour": Kind.CATEGORY,
        "encoded": Kind.CATEGORY,
        "code": Kind.TEXT,
        "title": Kind.TEXT,
        "tags": Kind.CATEGORIES,
        "released": Kind.TIME,
    }
    assert found["colour"].vocabulary == ("blue", "red")


def test_types_without_meaning_are_named_not_guessed() -> None:
    items = pa.table({"item_id": ["i0"], "embedding": [[0.1, 0.2]]})
    schema = FeatureSchema.infer(events([("u", "i0", 1.0, START)]), items, pa.table({"user_id": ["u"]}))
    assert schema.ignored == ("items.embedding",)


def test_vocabulary_of_sets_keeps_the_most_frequent_words() -> None:
    words = [[f"w{i % 100:02}"] for i in range(N)]
    words[:10] = [["often"]] * 10
    vocabulary = infer_items(tags=pa.array(words))["tags"].vocabulary
    assert len(vocabulary) == MAX_VOCABULARY
    assert "often" in vocabulary
    assert list(vocabulary) == sorted(vocabulary)


def test_words_of_a_small_table_are_text_unless_shared() -> None:
    assert infer_items(name=[str(i // 2) for i in range(N)])["name"].kind is Kind.TEXT  # 100 words
    assert infer_items(name=[str(i // 4) for i in range(N)])["name"].kind is Kind.CATEGORY


def test_skewed_numbers_enter_as_logarithms() -> None:
    found = infer_items(price=np.exp(np.linspace(0, 12, N)), year=np.arange(1900, 1900 + N))
    assert found["price"].log
    assert not found["year"].log


def test_a_missing_number_says_nothing() -> None:
    year = infer_items(year=pa.array([None if i % 3 else i for i in range(N)], pa.int32()))["year"]
    encoded = encode((year,), {"year": np.array([np.nan, 0.0], np.float32)})
    assert encoded[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert encoded[1, 0] < -1


def test_a_column_without_any_value_is_harmless() -> None:
    found = infer_items(year=pa.nulls(N, pa.int32()), colour=pa.nulls(N, pa.string()))
    assert found["year"].scale == 1.0
    assert found["colour"].kind is Kind.TEXT


def test_statistics_are_standardised_over_the_states_a_model_sees() -> None:
    world = films(n_events=400)
    schema, lines = world.schema, world.lines
    state = lines.user.at(lines.user_code, lines.user.rank)
    numbers = tuple(f for f in schema.user[:5] if f.name != "user_value_mean")
    encoded = encode(numbers, user_statistics(state)).astype(np.float64)
    np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(encoded.std(axis=0), 1, atol=1e-4)


def test_every_declared_statistic_is_computed_and_the_reverse() -> None:
    schema = films().schema
    assert [f.name for f in schema.user[:6]] == list(user_statistics(State.empty(1)))
    assert [f.name for f in schema.item[:5]] == list(item_statistics(State.empty(1)))
    assert tuple(f.name for f in schema.context) == CONTEXT_NAMES


def test_equal_tables_give_equal_schemas() -> None:
    assert films().schema.to_json() == films().schema.to_json()


@pytest.mark.parametrize("name", ["user_events", "event_timestamp", "age", "hour_sin", "user_id"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    users = pa.table({"user_id": ["u"], "age": [1]})
    items = pa.table({"item_id": ["i"], name: [1]})
    with pytest.raises(SchemaError, match=f"{name}.*rename"):
        FeatureSchema.infer(events([("u", "i", 1.0, START)]), items, users)


@pytest.mark.parametrize(("user", "item"), [("stranger", "i"), ("u", "stranger")])
def test_an_id_without_a_row_is_refused(user: str, item: str) -> None:
    users, items = pa.table({"user_id": ["u"]}), pa.table({"item_id": ["i"]})
    with pytest.raises(SchemaError, match="stranger"):
        FeatureSchema.infer(events([(user, item, 1.0, START)]), items, users)


def test_a_world_without_events_still_has_a_schema() -> None:
    schema = FeatureSchema.infer(events([]), pa.table({"item_id": ["i"]}), pa.table({"user_id": ["u"]}))
    assert schema.user_width == 5
