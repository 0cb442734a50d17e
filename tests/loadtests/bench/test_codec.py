import json
from dataclasses import replace

import pytest
from hypothesis import given

from loadtests.bench.codec import Entry, Unreadable, decode, encode
from loadtests.bench.result import Goal, Spread
from tests.loadtests.bench import results


@given(results.entries)
def test_what_is_written_is_read_back(entry: Entry) -> None:
    assert decode(json.loads(json.dumps(encode(entry), allow_nan=False))) == entry


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_only_finite_figures_are_written(value: float) -> None:
    entry = results.entry(results.found("suite", value))
    with pytest.raises(ValueError, match=r"suite\.section\.tables"):
        encode(entry)
    goal = Goal("a measure", Spread((1.0, value)), "at most", 1.0)
    with pytest.raises(ValueError, match="goals"):
        encode(replace(entry, section=results.found("suite", 1.0, goals=(goal,))))


@pytest.mark.parametrize("lost", ["section", "machine", "date"])
def test_what_lacks_something_is_refused(lost: str) -> None:
    encoded = encode(results.entry(results.found("suite", 1.0)))
    del encoded[lost]
    with pytest.raises(Unreadable):
        decode(encoded)


def test_what_has_something_unknown_is_refused() -> None:
    encoded = encode(results.entry(results.found("suite", 1.0)))
    encoded["section"]["unknown"] = 1
    with pytest.raises(Unreadable):
        decode(encoded)
