"""`marquee verify` takes a personal answer with all its features, and nothing less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.embedded import EmbeddedRedis
from features.known_user import KNOWN_USER
from features.marker import MARKER, connect, stamped
from serving import client_cli
from serving.client_cli import AskFailed, personal

GOOD: dict[str, Any] = {
    "items": [{"id": "318"}],
    "model": {"bundle": "films", "version": "abc123"},
    "tier": "personalized",
    "degraded": [],
}
URL = "http://server"


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server.url


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that were asked for; each answer is the first of `asked.answers` that is left, else `GOOD`."""
    return answering(monkeypatch)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | Exception) -> list[str]:
    users, left = [], list(answers)

    def ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (url, path) == (URL, "/v1/recommendations")
        users.append(body["user_id"])
        answer = left.pop(0) if left else GOOD
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client_cli, "ask", ask)
    monkeypatch.setattr(client_cli, "PAUSE_S", 0.0)
    return users


def test_a_personal_answer_is_told(asked: list[str]) -> None:
    assert personal(f"{URL}/", "7", None, 0.0) == "1 items for user 7, tier personalized, from bundle abc123"
    assert asked == ["7"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tier": "popular"}, "is not personal: tier popular"),
        ({"tier": "session"}, "is not personal: tier session"),
        ({"degraded": ["features"]}, r"lacks features \(degraded\)"),
        ({"items": []}, "no items were recommended"),
    ],
)
def test_anything_less_fails_in_words(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    answering(monkeypatch, GOOD | change)
    with pytest.raises(AskFailed, match=f"the known user 7.*{said}|{said}.*known user 7"):
        personal(URL, "7", None, 0.0)


def test_while_a_server_starts_it_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    users = answering(monkeypatch, AskFailed("503: waiting"), GOOD | {"degraded": ["features"]})
    assert "abc123" in personal(URL, "7", None, 60.0)
    assert len(users) == 3


def test_redis_names_somebody(asked: list[str], redis_url: str) -> None:
    with connect(redis_url) as client:
        client.set(KNOWN_USER, "dora")
        client.set(MARKER, stamped("v1"))
    personal(URL, None, redis_url, 0.0)
    assert asked == ["dora"]


def test_an_empty_redis_fails_in_words(asked: list[str], redis_url: str) -> None:
    with pytest.raises(AskFailed, match="Redis holds no features yet"):
        personal(URL, None, redis_url, 0.0)
    with connect(redis_url) as client:
        client.set(MARKER, stamped("v1"))
    with pytest.raises(AskFailed, match="no user with a history"):
        personal(URL, None, redis_url, 0.0)
    assert asked == []


def test_without_both_it_says_what_it_needs() -> None:
    with pytest.raises(AskFailed, match="--user, or REDIS_URL"):
        personal(URL, None, None, 0.0)
