import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidFilter
from serving.expressions import MAX_VALUES, CatalogueFilter
from training.catalogue import Catalogue

Row = dict[str, Any]
SCHEMA = {
    "item_id": pa.string(),
    "title": pa.string(),
    "genres": pa.list_(pa.string()),
    "year": pa.int16(),
    "rating": pa.float64(),
    "adult": pa.bool_(),
    "released": pa.date32(),
}
words = st.sampled_from(["", "a", "b", "B", "é", "🎬"])
years = st.integers(1990, 1994)
ratings = st.sampled_from([0.0, 0.5, 3.5, math.nan])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "title": st.none() | words,
            "genres": st.none() | st.lists(st.none() | words, max_size=4),
            "year": st.none() | years,
            "rating": st.none() | ratings,
            "adult": st.none() | st.booleans(),
        }
    ),
    max_size=12,
)


def catalogue(items: list[Row]) -> Catalogue:
    columns = {name: pa.array([row.get(name) for row in items], kind) for name, kind in SCHEMA.items()}
    return Catalogue(pa.table(columns), np.zeros((len(items), 1), np.float32))


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=3)


def one_or_more(operators: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    either = st.fixed_dictionaries({}, optional=dict(operators))
    return either.filter(bool)


labels = {"any": some(words), "all": some(words), "none": some(words), "exists": st.booleans()}
number = st.one_of(years, ratings.filter(math.isfinite), st.just(10**30))
numeric = {
    **dict.fromkeys(("eq", "ne", "gt", "gte", "lt", "lte"), number),
    "in": some(number),
    "exists": st.booleans(),
}
OPERATORS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "title": {**labels, "eq": words, "ne": words, "in": some(words)},
    "genres": labels,
    "year": numeric,
    "rating": numeric,
    "adult": {"eq": st.booleans(), "ne": st.booleans(), "exists": st.booleans()},
}


def holds(value: Any, operator: str, operand: Any) -> bool:
    """What the documentation says, one value at a time."""
    present = {word for word in value if word is not None} if isinstance(value, list) else {value}
    if value is None or value != value or not present:
        return operator in ("ne", "none") or (operator == "exists" and operand is False)
    match operator:
        case "exists":
            return bool(operand)
        case "eq":
            return bool(value == operand)
        case "ne":
            return bool(value != operand)
        case "in":
            return value in operand
        case "any":
            return bool(present & set(operand))
        case "all":
            return present >= set(operand)
        case "none":
            return not present & set(operand)
        case "gt":
            return bool(value > operand)
        case "gte":
            return bool(value >= operand)
        case "lt":
            return bool(value < operand)
    return bool(value <= operand)


@pytest.mark.parametrize(
    ("field", "operator"), [(f, o) for f, operators in OPERATORS.items() for o in operators]
)
@given(data=st.data(), items=rows)
def test_an_operator_does_what_the_words_say(
    field: str, operator: str, data: st.DataObject, items: list[Row]
) -> None:
    operand = data.draw(OPERATORS[field][operator])
    mask = CatalogueFilter(catalogue(items)).mask({field: {operator: operand}})
    assert mask.tolist() == [holds(row[field], operator, operand) for row in items]


def test_a_label_given_twice_counts_once() -> None:
    rules = CatalogueFilter(catalogue([{"genres": ["a", "a"]}, {"genres": ["a", "b", "b"]}]))
    assert rules.mask({"genres": {"all": ["a"]}}).tolist() == [True, True]
    assert rules.mask({"genres": {"all": ["a", "b", "b"]}}).tolist() == [False, True]


@given(rows, st.fixed_dictionaries({}, optional={f: one_or_more(ops) for f, ops in OPERATORS.items()}))
def test_all_fields_and_operators_must_hold(items: list[Row], expression: dict[str, dict[str, Any]]) -> None:
    mask = CatalogueFilter(catalogue(items)).mask(expression)
    assert mask.tolist() == [
        all(holds(row[f], o, operand) for f, ops in expression.items() for o, operand in ops.items())
        for row in items
    ]


ITEMS: list[Row] = [
    {"title": "a", "genres": ["Drama"], "year": 1994, "rating": 4.5, "adult": False},
    {"title": None, "genres": [], "year": None, "rating": math.nan, "adult": None},
]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            {"colour": {"eq": "red"}},
            "filter.colour: no such filter; fields are adult, genres, rating, title, year",
        ),
        ({"item_id": {"eq": "1"}}, "filter.item_id: no such filter; fields are"),
        ({"released": {"gte": 3}}, "filter.released: no such filter; fields are"),
        (
            {"genres": {"eq": "Drama"}},
            "filter.genres: no operator 'eq'; operators are any, all, none, exists",
        ),
        (
            {"year": {"any": [1994]}},
            "filter.year: no operator 'any'; operators are eq, ne, gt, gte, lt, lte, in",
        ),
        ({"genres": {}}, "filter.genres: must be an object with one or more of any, all, none, exists"),
        ({"genres": ["Drama"]}, "filter.genres: must be an object with one or more of"),
        ({"genres": None}, "filter.genres: must be an object with one or more of"),
        ({"genres": {"any": "Drama"}}, "filter.genres: any must be a list of 1 to 1,000 strings"),
        ({"genres": {"any": []}}, "filter.genres: any must be a list of 1 to 1,000 strings"),
        ({"genres": {"any": ["x", 3]}}, "filter.genres: any must be a list of 1 to 1,000 strings"),
        ({"genres": {"any": ["x"] * (MAX_VALUES + 1)}}, "filter.genres: any must be a list of 1 to 1,000"),
        ({"title": {"eq": 3}}, "filter.title: eq must be a string"),
        ({"title": {"eq": json.loads('"\\ud800"')}}, "filter.title: eq must be a string"),
        ({"year": {"gte": "1990"}}, "filter.year: gte must be a number"),
        ({"year": {"gte": True}}, "filter.year: gte must be a number"),
        ({"year": {"gte": math.nan}}, "filter.year: gte must be a finite number"),
        ({"year": {"gte": math.inf}}, "filter.year: gte must be a finite number"),
        ({"year": {"gte": 10**400}}, "filter.year: gte must be a finite number"),
        ({"year": {"in": [1994, math.nan]}}, "filter.year: in must be a list of 1 to 1,000 finite numbers"),
        ({"year": {"exists": 1}}, "filter.year: exists must be true or false"),
        ({"adult": {"eq": 0}}, "filter.adult: eq must be true or false"),
        ({"year": {"gte": 1990}, "colour": {"eq": "red"}}, "filter.colour: no such filter"),
    ],
)
def test_a_wrong_filter_is_told_what_is_allowed(expression: Any, message: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        CatalogueFilter(catalogue(ITEMS)).mask(expression)
    assert str(caught.value).startswith(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["title", "genres", "year", "adult", "x"]), st.data())
def test_any_json_is_answered_or_refused(field: str, data: st.DataObject) -> None:
    operator = st.sampled_from(["eq", "ne", "in", "any", "all", "none", "gte", "exists", "y"])
    condition = data.draw(json_values | st.dictionaries(operator, json_values, max_size=2))
    with suppress(InvalidFilter):
        mask = CatalogueFilter(catalogue(ITEMS)).mask({field: condition})
        assert (mask.dtype, mask.shape) == (np.bool_, (2,))


@pytest.mark.parametrize("expression", [None, {}])
def test_without_conditions_every_item_matches(expression: Any) -> None:
    assert CatalogueFilter(catalogue(ITEMS)).mask(expression).tolist() == [True, True]


def test_a_mask_is_compiled_once_and_cannot_be_changed() -> None:
    rules = CatalogueFilter(catalogue(ITEMS))
    mask = rules.mask({"year": {"gte": 1990, "lt": 2000}, "genres": {"any": ["Drama", "War"]}})
    again = rules.mask({"genres": {"any": ["War", "Drama", "War"]}, "year": {"lt": 2000.0, "gte": 1990}})
    assert again is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_columns_as_other_writers_make_them() -> None:
    """Dictionary-encoded, in several chunks, sliced, of the large types."""
    table = pa.table(
        {
            "item_id": ["0", "1", "2"],
            "studio": pa.array(["x", "y", None]).dictionary_encode(),
            "tags": pa.array([["p"], None, ["q", "p"]], pa.large_list(pa.large_string())),
            "codes": pa.array([["p"], [], ["q"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        }
    )
    pieces = pa.concat_tables([table.slice(1), table.slice(0, 2)])
    rules = CatalogueFilter(Catalogue(pieces, np.zeros((4, 1), np.float32)))
    assert rules.mask({"studio": {"eq": "y"}}).tolist() == [True, False, False, True]
    assert rules.mask({"tags": {"all": ["p", "q"]}}).tolist() == [False, True, False, False]
    assert rules.mask({"codes": {"any": ["p"]}}).tolist() == [False, False, True, False]
