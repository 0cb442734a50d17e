"""The traffic object's document: what is written is read again, and whatever else stands in it is refused in
words."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.config import Traffic, TrafficEntry
from serving.traffic.desired import MAX_BYTES, Desired, InvalidTraffic

TABLES = st.lists(st.integers(0, 100), max_size=3).map(
    lambda cuts: Traffic(
        traffic=tuple(
            TrafficEntry(bundle=f"s3://b/ü {number}", weight=high - low)
            for number, (low, high) in enumerate(zip([0, *sorted(cuts)], [*sorted(cuts), 100], strict=True))
        )
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(TABLES, st.integers(0, 2**40))
def test_what_is_written_is_read_again(traffic: Traffic, revision: int) -> None:
    desired = Desired(traffic, revision)
    assert Desired.parse(desired.to_json()) == desired
    assert Desired.parse(desired.to_json().encode()) == desired


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b'{"traffic": [{"bundle": "a", "weight": 99}]}')
@example(b"x" * (MAX_BYTES + 1))
def test_anything_else_is_refused_in_one_line_that_names_the_document(content: bytes) -> None:
    with pytest.raises(InvalidTraffic, match=r"^traffic\.json.*$") as caught:
        Desired.parse(content)
    assert "\n" not in str(caught.value)
