from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import LogsConfig
from serving.http.api import create_api
from serving.observe import logs
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from tests.serving.doubles import Fault, FixedSource, batch_of, fails
from tests.serving.fakes import CONFIG, engine_of, post


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Every logger as it was: pytest's own capture needs their lines to propagate."""
    loggers = [logging.getLogger(package) for package in logs.PACKAGES]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def app_of(access: float, *sources):
    engine = engine_of(*sources)
    config = CONFIG.model_copy(update={"logs": LogsConfig(format="json", access=access)})
    return create_api(Live.of(engine), config, PrometheusRecorder())


def lines(capfd) -> list[dict]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


async def ask(app, user: str = "ann", **headers):
    return await post(app, "/v1/recommendations", {"user_id": user, "count": 3}, **headers)


async def test_a_request_is_one_line_with_its_ids(capfd):
    logs.configure(LogsConfig(format="json"), "secret")
    await ask(app_of(1.0), x_request_id="r-1")
    [line] = lines(capfd)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("ms") > 0
    assert line.pop("user") == logs.hashed("ann")
    assert line == {
        "level": "INFO",
        "logger": "serving.observe.logs",
        "message": "POST /v1/recommendations 200",
        "request_id": "r-1",
        "method": "POST",
        "endpoint": "/v1/recommendations",
        "status": 200,
        "tier": "personalized",
        "bundle": "7",
        "items": 3,
        "degraded": [],
    }


async def test_without_a_key_nobody_is_named(capfd):
    logs.configure(LogsConfig(format="json"), None)
    await ask(app_of(1.0))
    [line] = lines(capfd)
    assert "user" not in line
    assert "ann" not in json.dumps(line)


def test_a_hash_depends_on_the_key():
    found = set()
    for key in ("one", "two"):
        logs.configure(LogsConfig(), key)
        found |= {logs.hashed("ann"), logs.hashed("ann"), logs.hashed("bob")}
    assert len(found) == 4


class Sleeps(Fault):
    def compute(self) -> None:
        time.sleep(0.01)


async def test_by_default_only_what_failed_is_said(capfd):
    logs.configure(LogsConfig(format="json"), None)
    await ask(app_of(0.0))
    await post(app_of(0.0), "/v1/recommendations", {"user_id": "ann", "count": 0})
    assert lines(capfd) == []
    await ask(app_of(0.0, FixedSource("only", fault=fails)))
    *lost, line = lines(capfd)  # a stage's loss is said the first time in a process
    assert {each["logger"] for each in lost} <= {"serving.observe.losses"}
    assert (line["level"], line["status"]) == ("WARNING", 503)


async def test_a_defect_is_said_with_its_traceback_and_the_request(capfd):
    logs.configure(LogsConfig(format="json"), None)

    broken = mock.AsyncMock(side_effect=LookupError("a\nb"))
    with mock.patch.object(Live, "answer", broken):
        await ask(app_of(0.0), x_request_id="r-9")
    said = lines(capfd)
    assert [line["request_id"] for line in said] == ["r-9", "r-9"]
    [defect] = [line for line in said if "exception" in line]
    assert "LookupError" in defect["exception"]


async def test_two_requests_at_once_are_not_confused(capfd):
    logs.configure(LogsConfig(format="json"), "k")
    slow = FixedSource("slow", batch=batch_of(range(20)), fault=Sleeps())
    app = app_of(1.0, slow)
    users = {f"r-{i}": f"u{i}" for i in range(8)}
    await asyncio.gather(*(ask(app, user, x_request_id=one) for one, user in users.items()))
    assert {line["request_id"]: line["user"] for line in lines(capfd)} == {
        one: logs.hashed(user) for one, user in users.items()
    }


@given(st.floats(0, 1), st.floats(0, 1), st.text(max_size=20))
def test_a_larger_share_has_everything_that_a_smaller_one_has(one, other, request_id):
    less, more = sorted((one, other))
    assert logs.chosen(request_id, less) <= logs.chosen(request_id, more)
    assert logs.chosen(request_id, 1.0)
    assert not logs.chosen(request_id, 0.0)


def test_the_share_is_about_what_is_asked_for():
    chosen = sum(logs.chosen(f"request-{i}", 0.1) for i in range(20_000))
    assert 1_700 < chosen < 2_300


def test_text_is_for_people(capfd):
    logs.configure(LogsConfig(), None)
    with logs.answering("r-1"):
        logging.getLogger("serving.traffic.table").warning("bundle %s is in service", "7")
    [line] = capfd.readouterr().err.splitlines()
    assert line.endswith("WARNING serving.traffic.table: bundle 7 is in service request_id=r-1")


def test_a_replaced_stderr_swallows_nothing(capfd, monkeypatch):
    """Ray Serve puts its logger there, which drops what is below its own level."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.configure(LogsConfig(format="json"), None)
    logging.getLogger("serving.traffic.table").warning("heard")
    assert [line["message"] for line in lines(capfd)] == ["heard"]


def test_odd_text_stays_one_line(capfd):
    logs.configure(LogsConfig(format="json"), None)
    logging.getLogger("serving.traffic.table").warning("é\n\x00\u2028%s", object)
    assert len(lines(capfd)) == 1
