from __future__ import annotations

import logging
import re

import pytest
from fastapi import FastAPI, Response

from serving.http.api import create_api
from serving.http.envelope import Envelope
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from tests.serving.fakes import CONFIG, call, engine_of, post


class Requests(PrometheusRecorder):
    """Keeps what it is told of each exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((endpoint, status))


@pytest.fixture
def metrics() -> Requests:
    return Requests()


@pytest.fixture
def app(metrics) -> FastAPI:
    engine = engine_of()
    return create_api(Live.of(engine), CONFIG, metrics)


@pytest.mark.parametrize("request_id", ["r-1", "a.b:c_d", "x" * 128])
async def test_a_sane_request_id_is_kept(app, request_id):
    for path in ("/v1/recommendations", "/nowhere"):
        reply = await post(app, path, {"user_id": "ann"}, x_request_id=request_id)
        assert reply.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "é", "x" * 129, "a\r\nset-cookie: b"])
async def test_any_other_request_id_is_replaced(app, request_id):
    reply = await post(app, "/v1/recommendations", {"user_id": "ann"}, x_request_id=request_id)
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])
    assert reply.json["recommendation_id"] == reply.headers["x-request-id"]


async def test_two_requests_without_an_id_get_two(app):
    replies = [await post(app, "/v1/recommendations", {"user_id": "ann"}) for _ in range(2)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 2


async def test_exchanges_are_counted_by_route_and_status(app, metrics):
    await post(app, "/v1/recommendations", {"user_id": "ann"})
    await post(app, "/v1/recommendations", {})
    await post(app, "/v1/items/i7/similar", {})
    await post(app, "/v1/items/gone/similar", {})
    await call(app, "/v1/rank", method="GET")
    await call(app, "/wp-login.php", method="GET")
    assert metrics.seen == [
        ("/v1/recommendations", 200),
        ("/v1/recommendations", 422),
        ("/v1/items/{item_id}/similar", 200),
        ("/v1/items/{item_id}/similar", 404),
        ("/v1/rank", 405),
        ("other", 404),
    ]


async def test_a_client_that_leaves_is_counted_and_not_answered(app, metrics):
    reply = await call(app, "/v1/recommendations", [b'{"user_id"'])
    assert reply.messages == []
    assert metrics.seen == [("/v1/recommendations", 499)]


async def test_a_defect_is_a_500_that_tells_only_the_log(caplog, metrics):
    class Broken:
        async def run(self, query):
            raise LookupError("secret of the house")

    app = create_api(Live.of(engine_of().with_pipeline("recommend", Broken())), CONFIG, metrics)
    with caplog.at_level(logging.ERROR, logger="serving.http.envelope"):
        reply = await post(app, "/v1/recommendations", {"user_id": "ann"}, x_request_id="r-9")
    assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json")
    assert reply.json["instance"] == "urn:marquee:request:r-9"
    assert b"secret" not in reply.body
    assert b"LookupError" not in reply.body
    assert "r-9" in caplog.text
    assert "secret of the house" in caplog.text
    assert metrics.seen == [("/v1/recommendations", 500)]


async def test_a_failure_after_the_answer_began_reaches_the_server():
    async def half(scope, receive, send):
        await Response(b"x")(scope, receive, send)
        raise LookupError("too late")

    with pytest.raises(LookupError):
        await call(Envelope(half, Requests()), "/")
