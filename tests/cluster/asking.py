"""Runs in the client's pod (`client`): asks once, or steadily: each user once, or until its input ends.

    python -c "<this>" once URL PATH BODY
    python -c "<this>" each URL RATE USERS
    python -c "<this>" load URL RATE USERS

Requests of a load go out by the clock, whether or not earlier ones are answered, every other one on a new
connection, and none is tried twice: what client apps would see is counted.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

TIMEOUT_S = 10.0


async def once(url: str, path: str, body: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        sent = json.loads(body)
        answer = await (http.get(path) if sent is None else http.post(path, json=sent))
    try:
        shown = answer.json()
    except ValueError:
        shown = answer.text
    print(json.dumps({"status": answer.status_code, "body": shown}))


def refusal(answer: httpx.Response) -> str:
    """Status and reason: the application's own words (problem+json), else whoever stands before it."""
    try:
        said = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = " ".join(answer.text.split())[:100]
    return f"{answer.status_code} {said}"


async def each(url: str, rate: str, users: str) -> None:
    names = json.loads(users)
    await ask_all(url, float(rate), names, lambda asked: asked == len(names))


async def load(url: str, rate: str, users: str) -> None:
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print("asking", flush=True)
    await ask_all(url, float(rate), json.loads(users), lambda _: ended.done())


async def ask_all(url: str, rate: float, names: list[Any], done: Callable[[int], bool]) -> None:
    asked = 0
    failures: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    degraded = 0

    async def ask(http: httpx.AsyncClient, turn: int) -> None:
        nonlocal degraded
        closing = {"Connection": "close"} if turn % 2 else None
        who = names[turn % len(names)]
        body = {"count": 5} | (who if isinstance(who, dict) else {"user_id": who})
        try:
            answer = await http.post("/v1/recommendations", json=body, headers=closing)
        except httpx.HTTPError as error:
            failures[f"{type(error).__name__} {error}".strip()] += 1
            return
        if answer.status_code != 200:
            failures[refusal(answer)] += 1
            return
        said: dict[str, Any] = answer.json()
        versions[said["model"]["version"]] += 1
        tiers[said["tier"]] += 1
        degraded += bool(said["degraded"])

    pending: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not done(asked):
            task = asyncio.create_task(ask(http, asked))
            asked += 1
            pending.add(task)
            task.add_done_callback(pending.discard)
            await asyncio.sleep(max(0.0, began + asked / rate - loop.time()))
        await asyncio.gather(*pending)
    counted = {"failures": failures, "versions": versions, "tiers": tiers, "degraded": degraded}
    print(json.dumps({"sent": asked, **counted}))


if __name__ == "__main__":
    asyncio.run({"once": once, "each": each, "load": load}[sys.argv[1]](*sys.argv[2:]))
