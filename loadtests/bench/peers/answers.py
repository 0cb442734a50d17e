"""Does an arm give the answers of the reference? Asked before anything is measured of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

SAMPLE = 30
"""Requests compared; the mix has filters, reasons and visitors in so many."""

TOLERANCE = 1e-4
"""Of a score, absolute: float32 sums in another order, and features that age by the second."""

ANSWER_S = 60.0


class Differs(Exception):
    """An arm answered otherwise; nothing measured of it would mean anything."""


def answers(url: str, bodies: Path) -> list[dict[str, Any]]:
    """To the first requests of the file, asked one after another and then all at once, as they are measured.

    Raises:
        Differs: an answer is an error or not whole, or another when many ask.
    """
    texts = bodies.read_text(encoding="utf-8").splitlines()[:SAMPLE]
    with httpx.Client(timeout=ANSWER_S, trust_env=False) as client, ThreadPoolExecutor(SAMPLE) as crowd:
        for text in texts:  # whose answers pay for connections and caches
            _ask(client, url, text)
        alone = [_ask(client, url, text) for text in texts]
        given = list(crowd.map(partial(_ask, client, url), texts))
    check(f"{url}, many at once", given, alone)
    if lost := sorted({part for answer in given for part in answer["degraded"]}):
        raise Differs(f"{url} answered without {', '.join(lost)}")
    return given


def _ask(client: httpx.Client, url: str, text: str) -> dict[str, Any]:
    response = client.post(url, content=text, headers={"Content-Type": "application/json"})
    if not response.is_success:
        raise Differs(f"{url} answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = json.loads(response.content)
    return answer


def check(name: str, given: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> None:
    """Raises Differs where tier, items, their order, sources or reasons differ, or scores by more than
    `TOLERANCE`."""
    for at, (mine, theirs) in enumerate(zip(given, reference, strict=True)):
        if _without_numbers(mine) != _without_numbers(theirs):
            raise Differs(f"{name}: answer {at} has other items, sources or reasons than the reference")
        ours, reference_s = ([item["score"] for item in answer["items"]] for answer in (mine, theirs))
        if not np.allclose(ours, reference_s, rtol=0, atol=TOLERANCE):
            raise Differs(f"{name}: answer {at} has other scores than the reference")


def _without_numbers(answer: dict[str, Any]) -> object:
    said = [
        (item["id"], item["rank"], item["sources"], [reason["sentence"] for reason in item["reasons"]])
        for item in answer["items"]
    ]
    return answer["tier"], answer["degraded"], said
