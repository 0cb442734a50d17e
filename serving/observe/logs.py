"""What a replica writes to its log: text for people, or one JSON object a line for those who collect logs.

Every line written while a request is answered names the request and its trace. A user appears only as a keyed
hash (BLAKE2b, RFC 7693): ids are few and guessable, so a hash without a secret key could be undone by hashing
every id; without a key users are left out.

The standard library's logging and twenty lines of formatter, because a library would add a dependency and
save none of them. Does not belong here: Ray's own logs, which have their own settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry import trace

from serving.config import LogsConfig
from serving.console import ToConsole
from serving.types import Recommendation

PACKAGES = ("serving", "features", "training")
"""Whose lines are ours. Ray, in the same process, keeps its own handlers."""

FIELDS = "marquee_fields"
"""The attribute of a log record that holds what a line says beside its message."""

HASH_BYTES = 8
"""Of a user's hash: among a billion users two alike are expected to be about 0.03 pairs in all."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Exchange:
    """The request that is being answered, as far as lines name it."""

    request_id: str
    user_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


_exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
_key = b""


def configure(config: LogsConfig, key: str | None, console: Path | None = None) -> None:
    """Takes over the lines of our packages in this process.

    Args:
        key: the secret with which users are hashed; None leaves users out.
        console: where a local run takes lines (`serving.console`), as this process's standard error is a file
            that goes with the run: warnings and errors, and what `config.access` asks for.
    """
    global _key
    _key = b"" if key is None else hashlib.blake2b(key.encode()).digest()
    # Not sys.stderr: Ray Serve may have put its own logger there, which drops what is below its level.
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.__stderr__)]
    if console is not None:
        handlers.append(ToConsole(console))
        handlers[-1].setLevel(logging.INFO if config.access else logging.WARNING)
    for handler in handlers:
        handler.setFormatter(JsonLines() if config.format == "json" else Text())
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers, logger.propagate = list(handlers), False
        logger.setLevel(logging.INFO)


@contextmanager
def answering(request_id: str) -> Iterator[None]:
    """Lines written within name this request."""
    token = _exchange.set(Exchange(request_id))
    try:
        yield
    finally:
        _exchange.reset(token)


def recommended(recommendation: Recommendation, version: str) -> None:
    """Remembers for the line about this request whom it answered, and how."""
    exchange = _exchange.get()
    if exchange is not None:
        exchange.user_id = recommendation.query.user_id
        exchange.fields = {
            "tier": recommendation.tier,
            "bundle": version,
            "items": len(recommendation.shown),
            "degraded": recommendation.degraded,
        }


def answered(method: str, endpoint: str, status: int, seconds: float, share: float) -> None:
    """The line about one exchange: always where the server failed, else for this share of the request ids."""
    exchange = _exchange.get()
    if exchange is None or not (status >= 500 or chosen(exchange.request_id, share)):
        return
    fields: dict[str, Any] = {
        "method": method,
        "endpoint": endpoint,
        "status": status,
        "ms": round(seconds * 1e3, 3),
        **exchange.fields,
    }
    if exchange.user_id is not None and _key:
        fields["user"] = hashed(exchange.user_id)
    level = logging.WARNING if status >= 500 else logging.INFO
    log.log(level, "%s %s %d", method, endpoint, status, extra={FIELDS: fields})


def chosen(request_id: str, share: float) -> bool:
    """Whether this request is among the share that is logged; the same on every replica it passes."""
    return share > 0 and zlib.crc32(request_id.encode()) < share * 2**32


def hashed(user_id: str) -> str:
    """16 hex digits that stand for the user as long as the key stays the same."""
    return hashlib.blake2b(user_id.encode(), key=_key, digest_size=HASH_BYTES).hexdigest()


def _context() -> dict[str, str]:
    """The request and the trace that a line belongs to."""
    exchange, span = _exchange.get(), trace.get_current_span().get_span_context()
    found = {} if exchange is None else {"request_id": exchange.request_id}
    if span.is_valid:
        found |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    return found


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, FIELDS, {})
    return fields


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message, ids, and further fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Text(logging.Formatter):
    """The same for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        said = {**_context(), **_fields(record)}
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in said.items())])
