"""Where Redis is: the one reader of Redis URLs, and how long to wait. Standard library only.

Every client (Feast's, the marker's, the one that hears of writes) is made from what `RedisAddress` says, so
that none of them drops an option that another knows. A URL that is refused is quoted nowhere: where it is
malformed, nobody can say which part of it is the password.

Does not belong here: what an error of Redis means (`features.redis_errors`).
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

CONNECT_TIMEOUT_S = 0.25
"""Seconds to reach Redis. Within a cluster it takes below 1 ms; one lost SYN is resent after 1 s, which no
request can wait for."""

READ_TIMEOUT_S = 0.1
"""Seconds for one online read. It takes about 1 ms; a hundred times that means Redis is in trouble, and
answering without features is better than answering late."""

WRITE_TIMEOUT_S = 10.0
"""Seconds for one batch of a bulk write, during which Redis may be rewriting its log."""

PORT = 6379
"""Where Redis listens by default, with TLS or without."""

EXPECTED = "expected redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix://[user:password@]/path"

ENCODE = (
    "in a user or password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A, % as %25 (python3 -c"
    " 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=\"\"))' PASSWORD)"
)

PATHS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
CHOICES = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}
TLS_OPTIONS = (*PATHS, *CHOICES, "ssl_ciphers", "ssl_password")
"""What may stand in the query of a `rediss://` URL: those options of redis-py that its blocking client, its
asynchronous one and Feast's connection string all take."""

TIMES = re.compile(
    r"(socket_)?(connect_)?timeout|retry(_on_timeout|_on_error)?|max_connections|health_check_interval"
    r"|socket_keepalive"
)
"""Options of redis-py that are Marquee's own business."""


class RedisUrlError(ValueError):
    """A Redis URL that cannot be used; the message says what one looks like, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server and how to log in; `str()` is for messages and holds no secret.

    Attributes:
    host: a name or IPv4 address; empty with a `socket`.
    socket: path of a Unix socket; None over TCP.
    username, password: decoded; None where there are none.
    tls: redis-py's options of TLS, by name; None without TLS.
    """

    host: str
    port: int = PORT
    database: int = 0
    socket: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: tuple[tuple[str, str | bool], ...] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads `redis://[user:password@]host[:port][/database][?option=value&…]`.

        What stands before the last @ is the login, before anything else is looked at: otherwise a / in a
        password would make the half of it a host.

        Raises:
            RedisUrlError: another scheme, no host, an unknown option, or anything malformed.
        """
        if re.search(r"[\s\x00-\x1f\x7f]", url):
            raise _refused(
                "it holds a space or a line break (a Secret made of a file often ends with one);"
                " write %20 for a space"
            )
        scheme, separator, rest = url.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in ("redis", "rediss", "unix"):
            raise _refused("it does not begin with redis://, rediss:// or unix://")
        login, at, place = rest.rpartition("@")
        username, password = _login(login) if at else (None, None)
        place, fragment, _ = place.partition("#")
        if fragment:
            raise _refused(f"it holds a #; {ENCODE}")
        place, _, query = place.partition("?")
        place, _, path = (place, "", "") if scheme == "unix" else place.partition("/")
        # The host first: in a URL without @ a name of an option may be part of a password.
        where = _socket(place) if scheme == "unix" else _host(place)
        options = _query(query, scheme)
        return cls(
            **where,
            database=_database(path.removesuffix("/"), options.pop("db", None)),
            username=username,
            password=password,
            tls=_tls(options) if scheme == "rediss" else None,
        )

    def __str__(self) -> str:
        scheme = "unix" if self.socket else "redis" if self.tls is None else "rediss"
        login = "" if self.password is None else "***@"
        if self.socket:
            return f"{scheme}://{login}{self.socket}"
        return f"{scheme}://{login}{self.host}:{self.port}/{self.database}"

    def options(self, timeout_s: float | None) -> dict[str, Any]:
        """What `redis.Redis` and `redis.asyncio.Redis` are made with. No retries: the caller has a deadline
        and a fallback. `timeout_s` bounds each reply; None leaves that to the caller's deadline.

        Raises:
            RedisUrlError: a file that an option names cannot be read.
        """
        found: dict[str, Any] = {
            "db": self.database,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": timeout_s,
            "retry": None,
        }
        if self.socket:
            found["unix_socket_path"] = self.socket
        else:
            found |= {"host": self.host, "port": self.port}
        if self.tls is not None:
            found |= {"ssl": True, **dict(self.tls)}
        for name in PATHS:
            if name in found and not os.access(found[name], os.R_OK):
                raise RedisUrlError(f"{name} of REDIS_URL names {found[name]}, which cannot be read")
        login = {"username": self.username, "password": self.password}
        return found | {name: value for name, value in login.items() if value}

    def feast(self, timeout_s: float | None, connections: int | None = None) -> str:
        """Feast's connection string for the same client, of up to so many `connections`.

        Values are JSON, as Feast parses them: a password of digits stays a string, and a comma in it is
        escaped, because Feast splits at commas.

        Raises:
            RedisUrlError: as `options`.
        """
        options = self.options(timeout_s)
        # Feast insists on a host; redis-py prefers the socket where both are given.
        place = f"{options.pop('host', 'localhost')}:{options.pop('port', PORT)}"
        if timeout_s is None:
            del options["socket_timeout"]
        if connections is not None:
            options["max_connections"] = connections
        encoded = (f"{name}={json.dumps(value)}".replace(",", r"\u002c") for name, value in options.items())
        return ",".join((place, *encoded))


def connection_string(url: str, timeout_s: float | None, connections: int | None = None) -> str:
    """`RedisAddress.feast` of a URL.

    Raises:
        RedisUrlError: the URL is not one of Redis, or names a file that cannot be read.
    """
    return RedisAddress.parse(url).feast(timeout_s, connections)


def redacted(url: str) -> str:
    """The URL without user, password and options, for messages; of a malformed one nothing at all."""
    try:
        return str(RedisAddress.parse(url))
    except RedisUrlError:
        return "a malformed REDIS_URL"


def _refused(why: str) -> RedisUrlError:
    return RedisUrlError(f"REDIS_URL is not a Redis URL: {why} ({EXPECTED})")


def _login(text: str) -> tuple[str | None, str]:
    if re.search(r"[/?#]", text):
        raise _refused(f"there is a /, ? or # before its last @; {ENCODE}")
    username, colon, password = text.partition(":")
    if not colon:
        raise _refused(
            "it has a user and no password; a password alone stands behind a colon, as in :password@host"
        )
    return _decoded(username, "user") or None, _decoded(password, "password")


def _decoded(text: str, what: str) -> str:
    try:
        if re.search(r"%(?![0-9A-Fa-f]{2})", text):
            raise ValueError
        return unquote(text, errors="strict")
    except ValueError:
        raise _refused(f"in its {what} a % does not begin an encoded character; {ENCODE}") from None


def _host(text: str) -> dict[str, Any]:
    if "[" in text or text.count(":") > 1:
        raise _refused("an IPv6 address cannot be used, as Feast cannot read one: give its host a name")
    host, colon, port = text.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise _refused("it has no host" if not host else "its host is neither a name nor an IPv4 address")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
        raise _refused("its port is not a whole number from 1 to 65535")
    return {"host": host, "port": int(port) if colon else PORT}


def _socket(text: str) -> dict[str, Any]:
    if not text.startswith("/"):
        raise _refused("its socket is not an absolute path: unix:///run/redis.sock")
    return {"host": "", "socket": _decoded(text, "path")}


def _database(path: str, option: str | None) -> int:
    given = {text for text in (path, option) if text}
    if not given:
        return 0
    if len(given) > 1 or not re.fullmatch(r"[0-9]{1,6}", text := given.pop()):
        raise _refused("its database is not one whole number")
    return int(text)


def _query(text: str, scheme: str) -> dict[str, str]:
    """The options by name, all of them known to be ours."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise _refused(f"its options are not name=value, joined by &; {ENCODE}") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise _refused("an option is given twice")
    for name in options:
        if name == "db":
            continue
        if name not in TLS_OPTIONS:
            raise _unknown(name)
        if scheme != "rediss":
            raise _refused(f"{name} needs TLS: write rediss:// instead of {scheme}://")
    return options


def _unknown(name: str) -> RedisUrlError:
    """Quotes only names that redis-py has, or we: any other may be a part of a password."""
    from redis import Redis

    if name in ("username", "password"):
        return _refused(f"the {name} is not an option: it stands before the host")
    if TIMES.fullmatch(name):
        return _refused(f"{name} cannot be set: time limits and connections are Marquee's own")
    known = f"known are db and, for TLS, {', '.join(TLS_OPTIONS)}"
    if name in inspect.signature(Redis).parameters:
        return _refused(f"the option {name} is not one that Marquee passes on; {known}")
    meant = difflib.get_close_matches(name, TLS_OPTIONS, 1)
    return _refused(f"an option is not known{f', perhaps {meant[0]} was meant' if meant else ''}; {known}")


def _tls(options: dict[str, str]) -> tuple[tuple[str, str | bool], ...]:
    found: list[tuple[str, str | bool]] = []
    for name, value in options.items():
        if not value:
            raise _refused(f"{name} is empty")
        if name in CHOICES and value.lower() not in CHOICES[name]:
            raise _refused(f"{name} must be one of {', '.join(CHOICES[name])}")
        found.append((name, value.lower() == "true") if name == "ssl_check_hostname" else (name, value))
    names = dict(found)
    if "ssl_keyfile" in names and "ssl_certfile" not in names:
        raise _refused("ssl_keyfile needs the certificate of that key: ssl_certfile")
    return tuple(
        (name, value.lower() if name == "ssl_cert_reqs" and isinstance(value, str) else value)
        for name, value in found
    )
