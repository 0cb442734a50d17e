"""`marquee recommend` and `similar` against a server of canned answers."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from serving import client_cli
from serving.client_cli import AskFailed, ask

ITEM: dict[str, Any] = {
    "id": "318",
    "rank": 1,
    "score": 4.25,
    "sources": ["ease", "popular"],
    "reasons": [{"sentence": "because you rated Heat highly", "anchor": None, "contributions": []}],
    "properties": {"title": "[REC] (2007)"},
}
ANSWER: dict[str, Any] = {
    "items": [ITEM],
    "model": {"bundle": "films", "version": "abc123"},
    "tier": "personalized",
    "degraded": [],
    "timings": {"retrieval": 1.5, "source:ease": 1.0, "ranker": 0.5},
}
Handler = Callable[[httpx.Request], httpx.Response]


def answering(handler: Handler) -> dict[str, Any]:
    return ask("http://server", "/v1/recommendations", {"user_id": "1"}, httpx.MockTransport(handler))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(width=160, record=True, quiet=False)
    monkeypatch.setattr(client_cli, "console", console)
    return console


def serve_canned(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> list[httpx.Request]:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=answer)

    def canned(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return ask(url, path, body, httpx.MockTransport(handle))

    monkeypatch.setattr(client_cli, "ask", canned)
    return requests


def test_recommend_shows_titles_scores_sources_and_reasons(
    monkeypatch: pytest.MonkeyPatch, shown: Console
) -> None:
    requests = serve_canned(monkeypatch, ANSWER)
    client_cli.recommend("196", count=5, filter_json='{"year": {"gte": 1990}}', url="http://server/")
    text = shown.export_text()
    for expected in (
        "[REC] (2007)",
        "4.250",
        "ease, popular",
        "because you rated Heat highly",
        "personalized",
    ):
        assert expected in text
    assert "2.0 ms" in text  # a source's time is within retrieval's
    assert json.loads(requests[0].content) == {
        "user_id": "196",
        "count": 5,
        "explain": True,
        "filter": {"year": {"gte": 1990}},
    }
    assert str(requests[0].url) == "http://server/v1/recommendations"


def test_what_was_lost_is_shown(monkeypatch: pytest.MonkeyPatch, shown: Console) -> None:
    serve_canned(monkeypatch, {**ANSWER, "degraded": ["features"], "tier": "popular"})
    client_cli.recommend("1", url="http://server")
    assert "degraded: features" in shown.export_text()


def test_an_item_id_is_quoted_in_the_path(monkeypatch: pytest.MonkeyPatch, shown: Console) -> None:
    requests = serve_canned(monkeypatch, {**ANSWER, "items": [{**ITEM, "reasons": []}]})
    client_cli.similar("a/b c", url="http://server")
    assert requests[0].url.raw_path == b"/v1/items/a%2Fb%20c/similar"
    assert "why" not in shown.export_text()


def test_without_a_sentence_the_strongest_terms_are_the_reason() -> None:
    reason = {"sentence": None, "anchor": None, "contributions": [{"feature": "idle", "contribution": -0.5}]}
    assert client_cli._why([reason]) == "idle -0.50"


def _raise(error: Exception) -> Handler:
    def handle(_: httpx.Request) -> httpx.Response:
        raise error

    return handle


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (_raise(httpx.ConnectError("refused")), "no server at http://server .*marquee serve"),
        (_raise(httpx.ReadTimeout("")), "did not answer within"),
        (_raise(httpx.ReadError("reset")), "broke off"),
        (
            lambda _: httpx.Response(503, json={"detail": "no bundle is loaded yet"}),
            "503: no bundle is loaded yet",
        ),
        (lambda _: httpx.Response(200, text="<html>"), "no Marquee server"),
        (lambda _: httpx.Response(200, json={"hello": 1}), "no Marquee server"),
        (lambda _: httpx.Response(200, json=[1]), "no Marquee server"),
    ],
)
def test_every_failure_is_one_line_that_says_what_happened(handler: Handler, expected: str) -> None:
    with pytest.raises(AskFailed, match=expected) as failed:
        answering(handler)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_a_filter_that_is_no_object_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(AskFailed, match="--filter"):
        client_cli._filter(text)


def test_the_client_and_doctor_import_neither_torch_nor_ray_nor_feast() -> None:
    code = (
        "import sys, serving.client_cli, serving.cli, serving.local.preflight; "
        "sys.exit(bool({'torch', 'ray', 'feast', 'pyarrow', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
