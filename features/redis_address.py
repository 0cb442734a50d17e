"""Where Redis is, and how long to wait for it. Standard library only."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

CONNECT_TIMEOUT_S = 0.25
"""Seconds to reach Redis. Within a cluster it takes below 1 ms; one lost SYN is resent after 1 s, which no
request can wait for."""

READ_TIMEOUT_S = 0.1
"""Seconds for one online read. It takes about 1 ms; a hundred times that means Redis is in trouble, and
answering without features is better than answering late."""

WRITE_TIMEOUT_S = 10.0
"""Seconds for one batch of a bulk write, during which Redis may be rewriting its log."""


class RedisUrlError(ValueError):
    """A Redis URL that cannot be used; the message says what one looks like."""


def connection_string(url: str, timeout_s: float | None, connections: int | None = None) -> str:
    """Feast's connection string for `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.

    Values are JSON, as Feast parses them: a password of digits stays a string, and a comma in it is escaped,
    because Feast splits at commas. No retries: the caller has a deadline and a fallback. `timeout_s` bounds
    each reply; None leaves that to the caller's deadline.

    Raises:
        RedisUrlError: another scheme, no host, or a malformed port or database.
    """
    try:
        parts = urlsplit(url)
        port, db = parts.port or 6379, int(parts.path.strip("/") or parse_qs(parts.query).get("db", ["0"])[0])
    except ValueError as error:
        raise RedisUrlError(f"{redacted(url)}: {error}") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or ":" in parts.hostname:
        raise RedisUrlError(
            f"{redacted(url)} is not a Redis URL: expected redis://[user:password@]host:port/db, or rediss://"
        )
    options: dict[str, object] = {
        "db": db,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": None,
    }
    if timeout_s is not None:
        options["socket_timeout"] = timeout_s
    if connections is not None:
        options["max_connections"] = connections
    if parts.scheme == "rediss":
        options["ssl"] = True
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            options[name] = unquote(value)
    encoded = (f"{name}={json.dumps(value)}".replace(",", r"\u002c") for name, value in options.items())
    return ",".join((f"{parts.hostname}:{port}", *encoded))


def redacted(url: str) -> str:
    """The URL without its password, for messages."""
    return re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url)
