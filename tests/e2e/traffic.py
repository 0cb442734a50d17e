"""Changes the traffic of a running server through its admin endpoint."""

import time
from pathlib import Path
from typing import Any

import httpx

ADMIN = "/v1/admin/traffic"
SWAP_S = 90.0
"""Seconds for five replicas on a busy machine to load a bundle; a bound, not an expectation."""


def entry(bundle: Path, weight: int = 0) -> dict[str, Any]:
    return {"bundle": str(bundle), **({"weight": weight} if weight else {"shadow": True})}


def change(admin: httpx.Client, *entries: dict[str, Any], **headers: str) -> None:
    """Changes the traffic, and returns when it is in service."""
    assert tried(admin, *entries, **headers) == ["serving"] * len(entries)


def tried(admin: httpx.Client, *entries: dict[str, Any], **headers: str) -> list[str]:
    """The state of each entry when none is loading any more."""
    answer = admin.put(ADMIN, json={"traffic": entries}, headers=headers)
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + SWAP_S
    while "loading" in (states := [each["state"] for each in admin.get(ADMIN).json()["traffic"]]):
        assert time.monotonic() < deadline, admin.get(ADMIN).text
        time.sleep(0.1)
    return states
