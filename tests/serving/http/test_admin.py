"""The admin endpoint: who may use it, what it refuses, and that two writers do not overwrite each other."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serving.config import Traffic
from serving.http.admin import Admin, add_admin_routes
from serving.http.api import create_api
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from serving.traffic.table import State
from serving.traffic.traffic_file import Stale, TrafficFile, revision
from tests.serving.fakes import CONFIG, Reply, call

PATH = "/v1/admin/traffic"
TOKEN = {"authorization": "Bearer s3cret"}
STATES = {"a": State("serving", version="1"), "b": State("refused", error="b is altered")}
CANARY = {"traffic": [{"bundle": "a", "weight": 90}, {"bundle": "b", "weight": 10}]}


@pytest.fixture
def file(tmp_path: Path) -> TrafficFile:
    made = TrafficFile(tmp_path / "traffic.json")
    made.write(Traffic.of("a"))
    return made


def app_of(file: TrafficFile | None, here: Traffic | None = None) -> FastAPI:
    app = create_api(Live.of(), CONFIG, PrometheusRecorder())
    admin = Admin("s3cret", lambda: here, lambda url: STATES.get(url, State("loading")), file)
    add_admin_routes(app, admin)
    return app


async def get(app: FastAPI, headers: dict[str, str] = TOKEN) -> Reply:
    return await call(app, PATH, headers=headers, method="GET")


async def put(app: FastAPI, document: Any, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await call(app, PATH, body, TOKEN | sent, method="PUT")


async def test_a_change_is_noted_and_shown_with_the_state_of_each_bundle(file: TrafficFile) -> None:
    app = app_of(file)
    shown = await get(app)
    assert shown.status == 200
    assert shown.json == {
        "traffic": [
            {"bundle": "a", "weight": 100, "shadow": False, "version": "1", "state": "serving", "error": None}
        ],
        "revision": revision(Traffic.of("a")),
    }
    assert shown.headers["etag"] == f'"{revision(Traffic.of("a"))}"'
    reply = await put(app, CANARY)
    assert reply.status == 202
    assert reply.json["traffic"][1] == {
        "bundle": "b",
        "weight": 10,
        "shadow": False,
        "version": None,
        "state": "refused",
        "error": "b is altered",
    }
    assert file.read() == Traffic.model_validate(CANARY)
    assert (await get(app)).json == reply.json


@pytest.mark.parametrize(
    "shown",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}, {"authorization": "s3cret"}],
)
async def test_without_the_token_nothing_is_told_or_changed(file: TrafficFile, shown: dict[str, str]) -> None:
    app = app_of(file)
    for reply in (
        await get(app, shown),
        await call(app, PATH, json.dumps(CANARY).encode(), shown, method="PUT"),
    ):
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.headers["content-type"] == "application/problem+json"
    assert file.read() == Traffic.of("a")


async def test_where_no_token_is_configured_there_is_no_such_path() -> None:
    app = create_api(Live.of(), CONFIG, PrometheusRecorder())
    assert (await get(app)).status == 404


@pytest.mark.parametrize(
    ("document", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "not JSON"),
        ({"traffic": [{"bundle": "a", "weight": 90}]}, 422, "add up to 100, not 90"),
        ({"traffic": [{"bundle": "a", "weight": 100, "color": 1}]}, 422, "no such field"),
        ({}, 422, "traffic"),
    ],
)
async def test_what_is_no_traffic_is_refused_and_changes_nothing(
    file: TrafficFile, document: Any, status: int, says: str
) -> None:
    reply = await put(app_of(file), document)
    assert reply.status == status
    assert says in reply.json["detail"]
    assert file.read() == Traffic.of("a")


async def test_a_change_made_for_another_traffic_is_refused(file: TrafficFile) -> None:
    app = app_of(file)
    seen = (await get(app)).json["revision"]
    assert (await put(app, CANARY, if_match=f'"{seen}"')).status == 202
    late = await put(app, {"traffic": [{"bundle": "c", "weight": 100}]}, if_match=seen)
    assert (late.status, late.json["type"]) == (412, "urn:marquee:problem:stale-traffic")
    assert file.read() == Traffic.model_validate(CANARY)
    assert (await put(app, {"traffic": [{"bundle": "c", "weight": 100}]}, if_match="*")).status == 202


async def test_where_a_rayservice_owns_the_traffic_it_is_only_shown() -> None:
    app = app_of(None, Traffic.of("a"))
    assert (await get(app)).json["traffic"][0]["state"] == "serving"
    reply = await put(app, CANARY)
    assert reply.status == 409
    assert "marquee rollout" in reply.json["detail"]
    assert (await get(app_of(None))).status == 503


def test_of_many_writers_for_one_revision_one_succeeds(file: TrafficFile) -> None:
    seen, outcomes = revision(file.read()), list[str]()

    def write(bundle: str) -> None:
        try:
            file.write(Traffic.of(bundle), seen)
            outcomes.append(bundle)
        except Stale:
            pass

    writers = [threading.Thread(target=write, args=(f"b{i}",)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [file.read()] == [Traffic.of(bundle) for bundle in outcomes]
