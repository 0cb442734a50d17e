"""What a client sees of a running cluster, and what it still gets while parts of it are down."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from features.embedded import EmbeddedRedis
from serving.config import LimitsConfig

RECOMMEND = "/v1/recommendations"
JSON = {"Content-Type": "application/json"}
RECOVERY_S = 120.0
"""Seconds for a new replica, which imports torch, on a busy machine; a bound, not an expectation."""

PATIENCE_MS = 5_000
"""Deadline of the requests that must not degrade: the stages keep their budgets, the machine may be busy."""


def recommend(client: httpx.Client, prefix: str = "", **body: Any) -> dict[str, Any]:
    response = _asked(client, prefix, body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def _asked(client: httpx.Client, prefix: str, body: dict[str, Any]) -> httpx.Response:
    return client.post(prefix + RECOMMEND, json={"timeout_ms": PATIENCE_MS, **body})


def whole(client: httpx.Client, prefix: str = "", **body: Any) -> dict[str, Any]:
    """An answer from which nothing was lost: on a busy machine a stage, or all sources, may miss the budget
    once."""
    for _ in range(20):
        response = _asked(client, prefix, body)
        if response.status_code == 200 and not response.json()["degraded"]:
            answer: dict[str, Any] = response.json()
            return answer
    pytest.fail(f"no whole answer: {response.text}")


def test_it_is_ready_with_the_bundle(client: httpx.Client, bundle_dir: Any) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json()["version"] == bundle_dir.name


def test_a_known_user_is_recommended_for_personally_and_an_unknown_one_what_is_popular(
    client: httpx.Client, users: list[str]
) -> None:
    known = whole(client, user_id=users[0], count=5, explain=True)
    assert known["tier"] == "personalized"
    assert known["feature_age_s"] > 0
    assert len(known["items"]) == 5
    assert all(item["reasons"] for item in known["items"])
    unknown = whole(client, user_id="nobody at all", count=5)
    assert unknown["tier"] == "popular"
    assert unknown["feature_age_s"] is None


def test_an_answer_is_computed_once_while_nothing_it_depends_on_changes(
    client: httpx.Client, users: list[str]
) -> None:
    computed, kept = (whole(client, "/fused", user_id=users[3], count=7) for _ in range(2))
    assert "ranker" in computed["timings"]
    assert set(kept["timings"]) == {"features", "cache"}
    assert kept["items"] == computed["items"]
    assert kept["recommendation_id"] != computed["recommendation_id"]


def test_a_session_is_enough(client: httpx.Client, users: list[str]) -> None:
    [first, *_] = whole(client, user_id=users[0])["items"]
    answer = whole(client, session={"events": [{"item_id": first["id"], "value": 5}]})
    assert answer["tier"] == "session"
    assert first["id"] not in {item["id"] for item in answer["items"]}


def test_similar_items_and_ranking_answer(client: httpx.Client, users: list[str]) -> None:
    ids = [item["id"] for item in whole(client, user_id=users[0], count=8)["items"]]
    similar = client.post(f"/v1/items/{ids[0]}/similar", json={"count": 3})
    assert similar.status_code == 200
    assert len(similar.json()["items"]) == 3
    ranked = client.post("/v1/rank", json={"user_id": users[0], "item_ids": ids})
    assert {item["id"] for item in ranked.json()["items"]} == set(ids)


def test_in_groups_and_in_the_ingress_answers_are_equal(client: httpx.Client, users: list[str]) -> None:
    ids = [item["id"] for item in whole(client, user_id=users[0], count=20)["items"]]
    bodies: list[dict[str, Any]] = [{"user_id": user, "count": 20, "explain": True} for user in users[:40]]
    bodies += [{"session": {"events": [{"item_id": id_}]}, "count": 10, "explain": True} for id_ in ids[:10]]
    bodies += [
        {"user_id": users[1], "exclude_ids": ids, "diversity": {"method": "none"}, "explain": True},
        {"user_id": users[2], "diversity": {"method": "mmr", "strength": 1.0}, "explain": True},
        {"user_id": "nobody at all", "count": 100, "explain": True},
    ]
    for body in bodies:
        distributed, fused = whole(client, **body), whole(client, "/fused", **body)
        assert [item["id"] for item in distributed["items"]] == [item["id"] for item in fused["items"]]
        assert distributed["tier"] == fused["tier"]
        for there, here in zip(distributed["items"], fused["items"], strict=True):
            assert there["score"] == pytest.approx(here["score"], abs=1e-3)  # `now` differs by the request
            assert there["sources"] == here["sources"]
            assert [_said(reason) for reason in there["reasons"]] == [
                _said(reason) for reason in here["reasons"]
            ]


def test_each_of_a_crowd_gets_the_answer_it_gets_alone(client: httpx.Client, users: list[str]) -> None:
    crowd = [{"user_id": user, "count": 9} for user in users[:32]]
    with ThreadPoolExecutor(len(crowd)) as at_once:
        found = list(at_once.map(lambda body: whole(client, "/fused", **body), crowd))
    for body, here in zip(crowd, found, strict=True):
        alone = whole(client, **body)
        assert [item["id"] for item in here["items"]] == [item["id"] for item in alone["items"]]


def test_each_of_a_crowd_that_may_share_hops_gets_the_answer_it_gets_alone(
    client: httpx.Client, users: list[str]
) -> None:
    crowd = [{"user_id": user, "count": 11} for user in users[:32]]
    with ThreadPoolExecutor(len(crowd)) as at_once:
        found = list(at_once.map(lambda body: whole(client, **body), crowd))
    for body, there in zip(crowd, found, strict=True):
        alone = whole(client, "/fused", **body)
        assert [item["id"] for item in there["items"]] == [item["id"] for item in alone["items"]]


def _said(reason: dict[str, Any]) -> tuple[Any, ...]:
    terms = [
        (term["feature"], pytest.approx(term["contribution"], abs=1e-3)) for term in reason["contributions"]
    ]
    return reason["sentence"], reason["anchor"], terms


def test_a_group_that_asks_for_a_gpu_gets_one(cluster: Any) -> None:
    assert cluster.gpus_in_use == 1


def _streamed() -> Iterator[bytes]:
    for _ in range(2 + LimitsConfig().body_bytes // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", RECOMMEND, {"content": b"{", "headers": JSON}, 400),
        ("POST", RECOMMEND, {"json": {"user_id": "1", "nonsense": 1}}, 422),
        ("POST", RECOMMEND, {"json": {"user_id": "1", "filter": {"nonsense": {"eq": 1}}}}, 422),
        ("POST", "/v1/items/no-such-item/similar", {}, 404),
        ("GET", "/no/such/path", {}, 404),
        ("GET", RECOMMEND, {}, 405),
        ("POST", RECOMMEND, {"content": b" " * (LimitsConfig().body_bytes + 1), "headers": JSON}, 413),
        ("POST", RECOMMEND, {"content": _streamed(), "headers": JSON}, 413),
        ("POST", RECOMMEND, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
    ],
)
def test_errors_pass_through_haproxy_as_problem_documents(
    client: httpx.Client, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    response = client.request(method, path, **sent)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_metrics_add_up_over_replicas_whichever_answers(client: httpx.Client, users: list[str]) -> None:
    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        wanted = 'marquee_requests_total{endpoint="/v1/recommendations",status="200"}'
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))

    before = counted()
    for prefix in ("", "/fused", ""):
        recommend(client, prefix, user_id=users[0])
    assert counted() - before == 3
    assert "marquee_bundle_info" in client.get("/metrics").text


def test_without_redis_answers_go_on_without_features_and_recover(
    client: httpx.Client, users: list[str], redis: EmbeddedRedis
) -> None:
    redis.__exit__(None, None, None)
    try:
        answer = recommend(client, user_id=users[0])
        assert "features" in answer["degraded"]
        assert answer["items"]
        assert client.get("/readyz").status_code == 200
    finally:
        redis.__enter__()
    assert whole(client, user_id=users[0])["tier"] == "personalized"


def test_with_redis_hanging_answers_go_on_without_features(
    client: httpx.Client, users: list[str], redis: EmbeddedRedis
) -> None:
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        assert "features" in recommend(client, user_id="of whom no row is kept")["degraded"]
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    assert whole(client, user_id=users[0])["tier"] == "personalized"


def test_with_its_ranker_killed_answers_come_in_retrieval_order_until_a_new_one_is_there(
    client: httpx.Client, users: list[str], cluster: Any
) -> None:
    [ranker] = _replicas(cluster.process, "accelerated")
    ranker.kill()
    end = time.monotonic() + RECOVERY_S
    while time.monotonic() < end:
        answer = recommend(client, user_id=users[0])
        assert answer["items"]
        if not answer["degraded"] and ranker not in _replicas(cluster.process, "accelerated"):
            return
    pytest.fail("no new ranker took over")


def _replicas(process: subprocess.Popen[str], group: str) -> list[psutil.Process]:
    """The group's replicas; Ray writes what a process is into its title."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [each for each in below if _title(each).startswith("ray::ServeReplica") and group in _title(each)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
