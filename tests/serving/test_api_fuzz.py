"""No input yields a 5xx."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from serving.http.api import create_api
from serving.observe.prometheus import PrometheusRecorder
from serving.traffic.live import Live
from tests.serving.fakes import CONFIG, MINUTE, call, engine_of

ENGINE = engine_of()
APP = create_api(Live.of(ENGINE), CONFIG, PrometheusRecorder())

text = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "\x00", "", "year", "ann", "i1"])
numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 2**64, 10**400, -(10**400), 1e308])
leaves = st.none() | st.booleans() | numbers | text
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
item_ids = st.lists(st.sampled_from(["i0", "i1", "i39", "gone"]) | text, max_size=5)
events = st.lists(
    st.fixed_dictionaries(
        {"item_id": st.sampled_from(["i1", "i2", "gone"])},
        optional={"value": st.floats(-1e12, 1e12) | anything, "timestamp": st.floats(0, 3e9) | anything},
    ),
    max_size=3,
)
filters = st.dictionaries(
    st.sampled_from(["year", "genres", "title", "item_id"]) | text,
    st.dictionaries(
        st.sampled_from(["eq", "ne", "in", "gte", "lt", "any", "all", "none", "exists"]), anything, max_size=2
    )
    | anything,
    max_size=2,
)
documents = anything | st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.sampled_from(["ann", "nobody"]) | anything,
        "session": st.fixed_dictionaries({"events": events}) | anything,
        "count": st.integers(1, 100) | anything,
        "filter": filters | anything,
        "exclude_ids": item_ids | anything,
        "item_ids": item_ids | anything,
        "diversity": st.fixed_dictionaries(
            {}, optional={"method": st.sampled_from(["mmr", "none"]), "strength": st.floats(0, 1)}
        )
        | anything,
        "explain": st.booleans() | anything,
        "context": st.dictionaries(text, leaves, max_size=3) | anything,
        "timeout_ms": st.sampled_from([int(MINUTE), 0, -1, 2**70]),
    },
)
item_in_path = st.sampled_from(["i1", "i39"]) | text
paths = st.sampled_from(["/v1/recommendations", "/v1/rank"]) | item_in_path.map("/v1/items/{}/similar".format)


async def assert_answered(path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    reply = await call(APP, path, body, headers)
    assert reply.status < 500, reply.body
    assert json.loads(reply.body)
    kind = "application/json" if reply.status == 200 else "application/problem+json"
    assert reply.headers["content-type"] == kind


@given(paths, documents)
async def test_any_json(path, document):
    await assert_answered(path, json.dumps(document).encode())


@given(paths, st.dictionaries(st.sampled_from(["user_id", "count", "filter"]), documents, min_size=1))
async def test_any_values_of_known_fields(path, document):
    await assert_answered(path, json.dumps({"user_id": "ann", "item_ids": ["i1"]} | document).encode())


@given(filters, st.sampled_from(["/v1/recommendations", "/v1/items/i1/similar"]))
async def test_any_filter(expression, path):
    document = {"filter": expression} | ({"user_id": "ann"} if path == "/v1/recommendations" else {})
    await assert_answered(path, json.dumps(document).encode())


@given(paths, st.binary(max_size=200))
async def test_any_bytes(path, body):
    await assert_answered(path, body)


@given(documents, st.data())
async def test_any_damage_to_a_body(document, data):
    body = bytearray(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] = data.draw(st.integers(0, 255))
    await assert_answered("/v1/recommendations", bytes(body))


@given(
    st.dictionaries(
        st.sampled_from(["content-type", "content-encoding", "x-request-id"]),
        st.text(st.characters(max_codepoint=255), max_size=20),
    )
)
async def test_any_headers(headers):
    await assert_answered("/v1/recommendations", b'{"user_id": "ann"}', headers)


@given(st.text(st.characters(), max_size=30), st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS"]))
async def test_any_path(path, method):
    reply = await call(APP, f"/{path}", b"{}", method=method)
    assert reply.status < 500
