"""A rollout's target without a cluster: one server's admin endpoint, the record and the decisions in files
under MARQUEE_HOME.

Does not belong here: the signals of that server (`k8s.scrape`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from k8s import web
from k8s.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from k8s.plan import Rollout, from_json, to_json
from k8s.target import Observed, Record
from serving.config import Traffic

CALL_S = 10.0
"""s for one call; the server answers before it loads."""

EVENTS = 200
"""Decisions kept; a rollout makes about ten."""

PATH = "/v1/admin/traffic"


def admin_token(home: Path) -> str | None:
    """MARQUEE_ADMIN_TOKEN, or what `marquee serve` has written for its user."""
    if token := os.environ.get("MARQUEE_ADMIN_TOKEN"):
        return token
    try:
        return (home / "admin-token").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


class LocalTarget:
    def __init__(
        self, url: str, home: Path, token: str | None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._transport = transport
        self._folder = home / "rollouts"
        self._stem = re.sub(r"[^\w.]+", "-", self._url.partition("://")[2]) or "server"

    @property
    def name(self) -> str:
        return self._url

    def read(self) -> Observed:
        body = self._call("GET")
        try:
            entries = [_Entry.of(entry) for entry in body["traffic"]]
            traffic = Traffic.model_validate({"traffic": [entry.table for entry in entries]})
            revision = str(body["revision"])
        except (KeyError, TypeError, AttributeError, ValidationError):
            raise Unavailable(f"{self._url}{PATH} answered with something else than traffic") from None
        return Observed(
            traffic,
            revision,
            {entry.bundle: entry.version for entry in entries if entry.version},
            {entry.bundle: entry.error for entry in entries if entry.refused},
        )

    def write(self, traffic: Traffic, revision: str) -> None:
        self._call("PUT", json={"traffic": traffic.wire()}, headers={"If-Match": revision})

    def load(self) -> Record | None:
        text = self._kept()
        return None if text is None else Record(from_json(text), _revision(text))

    def save(self, rollout: Rollout, revision: str | None) -> None:
        text = to_json(rollout)
        with self._locked():
            kept = self._kept()
            if (None if kept is None else _revision(kept)) != revision:
                raise Conflict("another controller wrote the rollout's record")
            _replace(self._file("json"), text)

    def announce(self, rollout: Rollout) -> None:
        """One line of JSON in `rollouts/<server>.events.jsonl`."""
        state = rollout.state
        key = f"{rollout.plan.id}.{state.decision}"
        with self._locked():
            file = self._file("events.jsonl")
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            if any(json.loads(line)["id"] == key for line in lines):
                return
            event = {
                "id": key,
                "time": datetime.fromtimestamp(state.decided, UTC).isoformat(timespec="seconds"),
                "action": state.action,
                "message": state.message,
            }
            _replace(file, "\n".join([*lines[1 - EVENTS :], json.dumps(event)]) + "\n")

    def hurry(self, behind: Mapping[str, str]) -> None:
        """Replicas of one machine are told at once."""

    def tend(self) -> str:
        """`marquee serve` looks after its own traffic."""
        return ""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def _call(self, method: str, **given: Any) -> dict[str, Any]:
        try:
            with web.client(CALL_S, self._transport, self._headers) as client:
                response = client.request(method, f"{self._url}{PATH}", **given)
            body = response.json()
        except httpx.InvalidURL as error:
            raise Unavailable(f"{self._url} is not a URL ({error}); give --url http://host:port") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"no server at {self._url} ({error}); start one with `marquee serve`") from None
        except ValueError:
            body = None
        detail = body.get("detail", "no reason given") if isinstance(body, dict) else "no reason given"
        match response.status_code:
            case 401 | 403:
                raise Forbidden(f"{self._url} refuses the admin token: set MARQUEE_ADMIN_TOKEN or --home")
            case 404:
                raise NotFound(f"{self._url} has no {PATH}: it runs without an admin token, or is no Marquee")
            case 409:
                raise Forbidden(f"{self._url} may not be moved by hand: {detail}")
            case 412:
                raise Conflict(f"somebody else changed the traffic of {self._url}")
            case status if 400 <= status < 500:
                raise Rejected(f"{self._url} refused the traffic ({status}): {detail}")
            case status if status >= 500 or not isinstance(body, dict):
                raise Unavailable(f"{self._url} answered {status}: {detail}")
        return body

    def _kept(self) -> str | None:
        try:
            return self._file("json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self._stem}.{kind}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Among the controllers on this machine. Held for a file's write only; the system frees it when its
        holder dies."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._file("lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class _Entry:
    """One entry of the admin endpoint's answer."""

    def __init__(self, bundle: str, table: dict[str, Any], version: str, refused: bool, error: str) -> None:
        self.bundle, self.table, self.version, self.refused, self.error = (
            bundle,
            table,
            version,
            refused,
            error,
        )

    @classmethod
    def of(cls, entry: dict[str, Any]) -> _Entry:
        bundle = str(entry["bundle"])
        share = {"shadow": True} if entry.get("shadow") else {"weight": entry["weight"]}
        refused = entry.get("state") == "refused"
        return cls(
            bundle, {"bundle": bundle} | share, entry.get("version") or "", refused, entry.get("error") or ""
        )


def _revision(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replace(file: Path, text: str) -> None:
    """All of it or nothing, whenever the process dies."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
