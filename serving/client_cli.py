"""`marquee recommend`, `similar` and `verify`: ask a running server, and show or judge its answer."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail
from features.known_user import known_user
from features.redis_address import RedisUrlError
from features.store import OnlineStoreError
from serving.settings import SettingError, Settings

PERSONAL = "personalized"
"""The tier of an answer from a user's own history."""

PAUSE_S = 2.0
"""Seconds between two tries of `verify`."""

TIMEOUT_S = 10.0
"""Seconds for the whole exchange; above the longest deadline the server accepts (5 s)."""

Url = Annotated[str | None, typer.Option(help="Where the server answers; made of HOST and PORT where unset.")]
Count = Annotated[int, typer.Option(min=1, max=100, help="Items wanted.")]
FilterJson = Annotated[
    str | None,
    typer.Option("--filter", help="""JSON, e.g. '{"genres": {"any": ["Drama"]}, "year": {"gte": 1990}}'"""),
]

console = Console()


class AskFailed(Exception):
    """The server gave no answer to show; the text says why and what to do."""


def recommend(
    user: Annotated[str, typer.Argument(help="A user's id; an unknown one gets what is popular.")],
    count: Count = 10,
    filter_json: FilterJson = None,
    explain: Annotated[bool, typer.Option(help="Say why each item is there.")] = True,
    url: Url = None,
) -> None:
    """Ask a running server for a user's recommendations."""
    body = {"user_id": user, "count": count, "explain": explain}
    _show(f"For user {user}", "/v1/recommendations", body, filter_json, url)


def similar(
    item: Annotated[str, typer.Argument(help="An item's id.")],
    count: Count = 10,
    filter_json: FilterJson = None,
    url: Url = None,
) -> None:
    """Ask a running server for items similar to an item."""
    path = f"/v1/items/{quote(item, safe='')}/similar"
    _show(f"Similar to item {item}", path, {"count": count}, filter_json, url)


def verify(
    user: Annotated[
        str | None, typer.Option(help="Somebody known; the one that the features in Redis name where unset.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(envvar="REDIS_URL", help="Redis with the features; read without --user.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to try for, while a server starts.")] = 0.0,
    url: Url = None,
) -> None:
    """Ask a running server for somebody it knows; ends with 1 unless the answer is personal and whole."""
    try:
        said = personal(url or Settings.read().url, user, redis_url, wait)
    except (AskFailed, SettingError, RedisUrlError) as error:
        fail(error)
    console.print(escape(said), highlight=False, soft_wrap=True)


def personal(url: str, user: str | None, redis_url: str | None, wait_s: float) -> str:
    """What was answered for the user, or for the one whom Redis names, in words.

    Raises:
        AskFailed: for `wait_s` nobody was known, or the answer was none, not personal, or not whole: the last
            of these.
        RedisUrlError: the URL is not one of Redis.
    """
    if user is None and not redis_url:
        raise AskFailed("somebody known is needed: give --user, or REDIS_URL of the Redis with the features")
    until = time.monotonic() + wait_s
    while True:
        try:
            return _personal(url.rstrip("/"), user if user is not None else known_user(str(redis_url)))
        except (AskFailed, OnlineStoreError) as error:
            if time.monotonic() >= until:
                raise AskFailed(str(error)) from None
        time.sleep(PAUSE_S)


def _personal(url: str, user: str) -> str:
    answer = ask(url, "/v1/recommendations", {"user_id": user, "count": 5})
    lost, tier, found = answer["degraded"], answer["tier"], len(answer["items"])
    if not found:
        raise AskFailed(f"no items were recommended to the known user {user}")
    if lost:
        raise AskFailed(f"the answer for the known user {user} lacks {', '.join(lost)} (degraded)")
    if tier != PERSONAL:
        raise AskFailed(f"the answer for the known user {user} is not personal: tier {tier}")
    return f"{found} items for user {user}, tier {tier}, from bundle {answer['model']['version']}"


def _show(title: str, path: str, body: dict[str, Any], filter_json: str | None, url: str | None) -> None:
    try:
        if filter_json is not None:
            body["filter"] = _filter(filter_json)
        answer = ask((url or Settings.read().url).rstrip("/"), path, body)
    except (AskFailed, SettingError) as error:
        fail(error)
    console.print(_table(title, answer))
    console.print(_summary(answer), highlight=False, soft_wrap=True)


def ask(
    url: str, path: str, body: dict[str, Any], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The server's answer.

    Raises:
        AskFailed: it does not run, took too long, or refused the request.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, transport=transport, trust_env=False) as client:
            response = client.post(path, json=body)
    except httpx.InvalidURL as error:
        raise AskFailed(f"{url} is not a URL ({error}); give --url http://host:port") from None
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
        raise AskFailed(
            f"no server at {url} ({error}); start one with `marquee serve` or give --url"
        ) from None
    except httpx.TimeoutException:
        raise AskFailed(f"{url} did not answer within {TIMEOUT_S:g} s") from None
    except httpx.HTTPError as error:
        raise AskFailed(f"{url} broke off the exchange: {error}") from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or (response.is_success and "items" not in answer):
        raise AskFailed(f"{url} is no Marquee server: it answered {response.status_code} with something else")
    if not response.is_success:
        raise AskFailed(f"{response.status_code}: {answer.get('detail', 'no reason given')}")
    return answer


def _filter(text: str) -> dict[str, Any]:
    try:
        expression = json.loads(text)
    except ValueError as error:
        raise AskFailed(f"--filter is not JSON: {error}") from None
    if not isinstance(expression, dict):
        raise AskFailed("--filter must be a JSON object: field → operator → operand")
    return expression


def _table(title: str, answer: dict[str, Any]) -> Table:
    explained = any(item["reasons"] for item in answer["items"])
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("id", justify="right")
    table.add_column("title")
    table.add_column("score", justify="right")
    table.add_column("sources")
    if explained:
        table.add_column("why")
    for item in answer["items"]:
        properties = item["properties"]
        row = [
            str(item["rank"]),
            item["id"],
            str(properties.get("title", "")),
            f"{item['score']:.3f}",
            ", ".join(item["sources"]),
        ]
        if explained:
            row.append(_why(item["reasons"]))
        table.add_row(*map(escape, row))
    return table


def _why(reasons: list[dict[str, Any]]) -> str:
    """The sentence, or where there is none the strongest terms of the score."""
    for reason in reasons:
        if reason["sentence"]:
            return str(reason["sentence"])
        return ", ".join(f"{term['feature']} {term['contribution']:+.2f}" for term in reason["contributions"])
    return ""


def _summary(answer: dict[str, Any]) -> str:
    """Who answered, how much was known, and what was lost on the way."""
    model = answer["model"]
    parts = [f"bundle {escape(model['bundle'])} {escape(model['version'])}"]
    if "tier" in answer:
        parts.append(f"tier {answer['tier']}")
    if answer["degraded"]:
        parts.append(f"[yellow]degraded: {escape(', '.join(answer['degraded']))}[/]")
    parts.append(
        f"{sum(ms for stage, ms in answer['timings'].items() if ':' not in stage):.1f} ms in the pipeline"
    )
    return " · ".join(parts)
