import asyncio
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.result import Spread
from loadtests.bench.suites import layers
from loadtests.bench.suites.layers import (
    Application,
    NeverEntered,
    Spans,
    Timed,
    measured,
    middle_mean,
    section,
    span,
)
from serving.build import compose
from serving.config import CacheConfig, ServeConfig
from serving.http import wire
from serving.observe.prometheus import PrometheusRecorder
from tests.serving.fakes import PATIENT
from tests.serving.models import small, small_bundle

times = st.floats(0.01, 10)
requests_timed = st.builds(
    lambda http, ranker, rest: Timed(http + ranker + rest, {"HTTP in": http, "ranker": ranker}),
    times,
    times,
    times,
)


@given(st.lists(requests_timed, min_size=1, max_size=20))
def test_layers_and_what_they_leave_out_add_up_to_the_total(requests: list[Timed]) -> None:
    mean = middle_mean(requests)
    assert sum(mean.layers.values()) + mean.rest == pytest.approx(mean.total)
    totals = [one.total for one in requests]
    assert min(totals) <= mean.total * (1 + 1e-9)
    assert mean.total <= max(totals) * (1 + 1e-9)


def test_a_rare_slow_request_does_not_count() -> None:
    usual = [Timed(1.0, {"ranker": 1.0})] * 9
    assert middle_mean([*usual, Timed(1e3, {"ranker": 1e3})]).total == 1.0


@given(st.lists(st.lists(requests_timed, min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_table_has_every_layer_once_with_its_share(rounds: list[list[Timed]]) -> None:
    found = section({"plain": rounds})
    [table] = found.tables
    assert [row[0] for row in table.rows] == ["HTTP in", "ranker", "not covered", "total"]
    *_, total = table.rows
    assert isinstance(total[1], Spread)
    assert total[1].values == pytest.approx([middle_mean(one).total for one in rounds])
    shares = [row[2] for row in table.rows]
    assert all(isinstance(share, Spread) for share in shares)
    for turn in range(len(rounds)):
        assert sum(share.values[turn] for share in shares[:-1]) == pytest.approx(100)  # type: ignore[union-attr]  # these cells are spreads


def test_what_is_not_covered_is_held_against_the_goal() -> None:
    covered = section({"a": [[Timed(1.0, {"x": 0.96})]]}).goals[0]
    not_covered = section({"a": [[Timed(1.0, {"x": 0.9})]]}).goals[0]
    assert (covered.reached, not_covered.reached) == (True, False)


@pytest.fixture
def application() -> Application:
    bundle = small_bundle()
    config = ServeConfig(bundle="small", cache=CacheConfig(items=0), budgets=PATIENT)
    recorder = PrometheusRecorder()
    engine = compose(bundle, small().store(), config, recorder)
    return Application(engine, config, recorder)


BODY = b'{"user_id": "u1", "count": 3}'


def test_one_request_is_covered_by_its_spans(application: Application) -> None:
    asyncio.run(application.ask(BODY))
    found = asyncio.run(application.ask(BODY))
    assert {
        "HTTP in",
        "validation",
        "query",
        "features",
        "source:two_tower",
        "source:popular",
        "ranker",
        "serialisation",
    } <= found.layers.keys()
    assert all(ms >= 0 for ms in found.layers.values())
    assert 0 <= found.rest < found.total
    assert "retrieval" not in found.layers


def test_a_refused_request_is_not_timed(application: Application) -> None:
    with pytest.raises((layers.Degraded, NeverEntered)):
        asyncio.run(application.ask(b'{"user_id": "u1", "count": 0}'))


def test_a_function_that_serving_no_longer_calls_is_noticed(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = wire.recommendation_body
    monkeypatch.setattr(layers, "wire", type("Elsewhere", (), {**vars(wire), "recommendation_body": called}))
    with pytest.raises(NeverEntered):
        asyncio.run(application.ask(BODY))


def test_a_span_lies_where_its_function_ran_and_is_entered_once() -> None:
    owner, spans = types.SimpleNamespace(inner=lambda x: x + 1), Spans()
    original = owner.inner
    with span(spans, "out"), measured(spans, "in", owner, "inner"):
        assert owner.inner(1) == 2
        with pytest.raises(NeverEntered, match="twice"):
            owner.inner(1)
    assert spans["out"][0] <= spans["in"][0] <= spans["in"][1] <= spans["out"][1]
    assert owner.inner is original


def test_what_raises_still_ends() -> None:
    spans = Spans()
    with pytest.raises(KeyError), span(spans, "a"):
        raise KeyError
    assert spans["a"][0] <= spans["a"][1]
