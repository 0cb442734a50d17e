import types

import pytest

from loadtests.bench.spans import NeverEntered, Spans


def test_spans_lie_where_the_functions_ran() -> None:
    owner = types.SimpleNamespace(inner=lambda x: x + 1, outer=lambda x: owner.inner(x) * 2)
    original, spans = owner.inner, Spans()
    with spans.round_functions({"in": (owner, "inner"), "out": (owner, "outer")}):
        assert owner.outer(1) == 4
    assert spans.began("out") <= spans.began("in") <= spans.ended("in") <= spans.ended("out")
    assert spans.seconds("in") <= spans.seconds("out")
    assert owner.inner is original


def test_what_was_not_entered_is_not_nought() -> None:
    spans = Spans()
    with pytest.raises(NeverEntered, match="validation"):
        spans.seconds("validation")


def test_a_span_is_entered_once_until_the_next_request() -> None:
    spans = Spans()
    with spans.span("a"):
        pass
    with pytest.raises(NeverEntered, match="twice"), spans.span("a"):
        pass
    spans.reset()
    with spans.span("a"):
        pass


def test_what_raises_still_ends() -> None:
    spans = Spans()
    with pytest.raises(KeyError), spans.span("a"):
        raise KeyError
    assert spans.seconds("a") >= 0
