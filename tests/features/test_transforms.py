"""Values to model inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import Feature, Kind, inputs
from features.statistics import DAY_S, HALF_LIFE_S
from features.store import Column
from features.transforms import WIDEST, column, context, encode, items_at

AGE = Feature("age", Kind.NUMBER, "", default=30.0, mean=30.0, scale=10.0)
COUNT = Feature("count", Kind.NUMBER, "", log=True, mean=1.0, scale=2.0)
JOB = Feature("job", Kind.CATEGORY, "", vocabulary=("nurse", "writer"))
GENRES = Feature("genres", Kind.CATEGORIES, "", vocabulary=("Action", "Comedy", "Drama"))
TITLE = Feature("title", Kind.TEXT, "")


def test_inputs_are_in_the_schemas_order() -> None:
    features = (AGE, TITLE, JOB, GENRES)
    assert inputs(features) == (
        "age",
        "job=nurse",
        "job=writer",
        "genres=Action",
        "genres=Comedy",
        "genres=Drama",
    )
    columns = {
        "age": column(AGE, [40, None]),
        "title": column(TITLE, ["a", "b"]),
        "job": column(JOB, ["writer", "sailor"]),
        "genres": column(GENRES, [["Drama", "Action", "Western"], None]),
    }
    expected = [[1, 0, 1, 0.5, 0, 0.5], [0, 0, 0, 0, 0, 0]]
    encoded = encode(features, columns)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, np.array(expected, np.float32))


def test_a_number_is_logged_standardised_and_cut_off() -> None:
    values = column(COUNT, [0, math.e - 1, -3, 1e30, math.nan, math.inf])
    expected = [-0.5, 0.0, -0.5, WIDEST, -0.5, -0.5]
    np.testing.assert_allclose(encode((COUNT,), {"count": values})[:, 0], expected, atol=1e-6)


def test_a_word_twice_in_a_set_counts_once() -> None:
    encoded = encode((GENRES,), {"genres": column(GENRES, [["Drama", "Drama", "Comedy"]])})
    np.testing.assert_allclose(encoded, [[0, 0.5, 0.5]])


def test_no_features_give_no_inputs_but_keep_the_rows() -> None:
    assert encode((TITLE,), {"title": column(TITLE, ["a", "b"])}).shape == (2, 0)
    assert encode((), {}, rows=3).shape == (3, 0)


def test_rows_that_nothing_tells_are_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="the number of rows"):
        encode((), {})


@given(st.lists(st.sampled_from((AGE, TITLE, JOB, GENRES)), unique=True), st.integers(0, 4))
def test_any_subset_of_features_encodes_with_a_row_for_each(features: list[Feature], rows: int) -> None:
    columns = {feature.name: column(feature, [None] * rows) for feature in features}
    assert encode(features, columns, rows).shape == (rows, len(inputs(tuple(features))))


@given(st.lists(st.lists(st.sampled_from(["Action", "Comedy", "Drama", "Noir"])), max_size=6))
def test_sets_share_one_and_unknown_words_nothing(cells: list[list[str]]) -> None:
    encoded = encode((GENRES,), {"genres": column(GENRES, cells)})
    for row, cell in zip(encoded, cells, strict=True):
        known = set(cell) & set(GENRES.vocabulary)
        assert row.sum() == pytest.approx(1.0 if known else 0.0)
        assert {word for word, x in zip(GENRES.vocabulary, row, strict=True) if x} == known


def plain(features: Sequence[Feature], columns: Mapping[str, Column]) -> np.ndarray:
    """What `encode` says it does, a feature and a row at a time."""
    size = len(columns[features[0].name])
    out = np.zeros((size, len(inputs(tuple(features)))), np.float32)
    at = 0
    for feature in features:
        values = columns[feature.name]
        if feature.kind is Kind.NUMBER:
            numbers = np.asarray(values, np.float64)
            numbers = np.where(np.isfinite(numbers), numbers, feature.default)
            standard = (np.log1p(np.maximum(numbers, 0.0)) if feature.log else numbers) - feature.mean
            out[:, at] = np.clip(standard / feature.scale, -WIDEST, WIDEST).astype(np.float32)
        else:
            for row, value in enumerate(values):
                cell = {value} if feature.kind is Kind.CATEGORY else set(value)
                for place, word in enumerate(feature.vocabulary):
                    if word in cell:
                        out[row, at + place] = np.float32(1) / np.float32(len(cell & set(feature.vocabulary)))
        at += len(feature.inputs)
    return out


WORDS = st.sampled_from(["Action", "Comedy", "Drama", "Noir", "nurse", "writer", ""])
ROW = st.tuples(
    st.floats(width=32) | st.none(), st.floats(width=32) | st.none(), WORDS, st.lists(WORDS, max_size=5)
)


@given(st.lists(ROW, min_size=1, max_size=20))
def test_encoding_is_the_plain_one_to_the_last_bit_for_many_rows_and_for_each(
    rows: list[tuple[float | None, float | None, str, list[str]]],
) -> None:
    features = (GENRES, AGE, TITLE, JOB, COUNT)
    ages, counts, jobs, genres = zip(*rows, strict=True)
    columns = {
        "age": column(AGE, ages),
        "count": column(COUNT, counts),
        "job": column(JOB, jobs),
        "title": column(TITLE, jobs),
        "genres": column(GENRES, genres),
    }
    encoded = encode(features, columns)
    assert encoded.dtype == np.float32
    assert encoded.tobytes() == plain(features, columns).tobytes()
    for row in range(len(rows)):
        one = encode(features, {name: values[row : row + 1] for name, values in columns.items()})
        assert one.tobytes() == encoded[row].tobytes()


def test_columns_have_the_types_that_feature_batches_promise() -> None:
    history = Feature("history_items", Kind.IDS, "")
    values = Feature("history_values", Kind.NUMBERS, "")
    assert column(AGE, [1]).dtype == np.float32
    assert column(Feature("at", Kind.TIME, ""), [None]).dtype == np.float64
    ids, numbers = column(history, [["1", "2"], ["3", "4"]]), column(values, [[1, 2], []])
    assert ids.shape == numbers.shape == (2,)
    assert ids[0].dtype == np.object_
    assert numbers[1].dtype == np.float32
    assert column(JOB, [None])[0] == ""


@given(st.integers(0, 4_000_000_000))
def test_context_points_at_the_hour_and_the_weekday(now: int) -> None:
    moment = context(float(now), float(now - 60))
    clock = datetime.fromtimestamp(now, UTC)
    hours = clock.hour + clock.minute / 60 + clock.second / 3600
    hour = math.atan2(moment["hour_sin"][0], moment["hour_cos"][0]) / (2 * math.pi) * 24 % 24
    week = math.atan2(moment["weekday_sin"][0], moment["weekday_cos"][0]) / (2 * math.pi) * 7 % 7
    assert abs((hour - hours + 12) % 24 - 12) < 0.01
    assert abs((week - clock.weekday() - hours / 24 + 3.5) % 7 - 3.5) < 0.01
    assert moment["seconds_since_last_event"][0] == 60


def test_context_without_a_last_event_has_no_gap() -> None:
    assert np.isnan(context(DAY_S, math.nan)["seconds_since_last_event"][0])


def test_popularity_is_compared_at_one_moment() -> None:
    columns = {
        "item_popularity": np.array([8, 8, 0], np.float32),
        "item_last_event_at": np.array([0.0, HALF_LIFE_S, np.nan]),
        "year": np.array([1, 2, 3], np.float32),
    }
    now = items_at(columns, 2 * HALF_LIFE_S)
    np.testing.assert_allclose(now["item_popularity"], [2, 4, 0])
    np.testing.assert_array_equal(now["year"], columns["year"])
