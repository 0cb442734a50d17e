from __future__ import annotations

import asyncio
import json

import pytest
from fastapi import FastAPI

from serving.config import LimitsConfig
from serving.http.api import create_api
from serving.http.envelope import Envelope
from serving.http.limits import InFlightLimit
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from tests.serving.fakes import CONFIG, JSON, call, engine_of

LIMIT = 1_000


@pytest.fixture
def app() -> FastAPI:
    engine = engine_of()
    config = CONFIG.model_copy(update={"limits": LimitsConfig(body_bytes=LIMIT)})
    return create_api(Live.of(engine), config, PrometheusRecorder())


def body_of(size: int) -> bytes:
    document = json.dumps({"user_id": "ann"}).encode()
    return document + b" " * (size - len(document))


def assert_too_large(reply):
    assert reply.status == 413
    assert reply.headers["content-type"] == "application/problem+json"
    assert str(LIMIT) in reply.json["detail"]
    assert reply.headers["x-request-id"] in reply.json["instance"]


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(app):
    assert (await call(app, "/v1/recommendations", body_of(LIMIT))).status == 200
    assert_too_large(await call(app, "/v1/recommendations", body_of(LIMIT + 1)))


async def test_a_body_without_a_declared_length_is_counted_and_left_when_too_large(app):
    taken = []

    def stream():
        for _ in range(100):
            taken.append(100)
            yield b" " * 100

    assert_too_large(await call(app, "/v1/rank", stream()))
    assert sum(taken) == LIMIT + 100


async def test_a_declared_length_that_lies_is_found_out(app):
    for declared in ("5", "-1", "many", "9" * 5_000):
        reply = await call(
            app, "/v1/recommendations", [body_of(600), body_of(600)], JSON | {"content-length": declared}
        )
        assert_too_large(reply)


@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("POST", "/nowhere")])
async def test_the_limit_holds_where_no_route_reads_the_body(app, method, path):
    assert_too_large(await call(app, path, body_of(LIMIT + 1), method=method))


async def test_a_request_beyond_the_limit_is_turned_away_and_the_next_one_after_an_answer_is_not():
    answer, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(scope, receive, send):
        arrived.release()
        await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    app = Envelope(InFlightLimit(slow, limit=2), PrometheusRecorder())
    waiting = [asyncio.create_task(call(app, "/v1/rank", b"{}")) for _ in range(2)]
    await arrived.acquire()
    await arrived.acquire()
    refused = await call(app, "/v1/rank", b"{}")
    assert refused.status == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    probe = asyncio.create_task(call(app, "/readyz", b"", method="GET"))
    await arrived.acquire()  # a probe is let through however busy it is
    answer.set()
    assert [reply.status for reply in await asyncio.gather(*waiting, probe)] == [200, 200, 200]
    assert (await call(app, "/v1/rank", b"{}")).status == 200


async def test_a_request_that_fails_gives_its_place_back():
    async def broken(scope, receive, send):
        raise RuntimeError("injected")

    app = InFlightLimit(broken, limit=1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="injected"):
            await call(app, "/v1/rank", b"{}")
