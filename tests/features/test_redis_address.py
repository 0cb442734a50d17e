"""Redis URLs, as Feast reads them."""

from __future__ import annotations

import pytest

from features.feast_api import RedisOnlineStore
from features.redis_address import RedisUrlError, connection_string, redacted


def parsed(url: str) -> tuple[list[dict[str, str]], dict[str, object]]:
    nodes, options = RedisOnlineStore._parse_connection_string(connection_string(url, 0.5, 7))
    return nodes, options


@pytest.mark.parametrize(
    ("url", "host", "port", "db"),
    [
        ("redis://localhost", "localhost", "6379", 0),
        ("redis://10.0.0.1:7000/3", "10.0.0.1", "7000", 3),
        ("redis://cache.example.org:6380/?db=2", "cache.example.org", "6380", 2),
    ],
)
def test_host_port_and_database(url: str, host: str, port: str, db: int) -> None:
    nodes, options = parsed(url)
    assert nodes == [{"host": host, "port": port}]
    assert options["db"] == db


@pytest.mark.parametrize("password", ["secret", "12345", "true", "a,b=c", 'quo"te', "p%40ss"])
def test_any_password_arrives_as_it_is(password: str) -> None:
    quoted = password.replace("%", "%25").replace('"', "%22")
    _, options = parsed(f"redis://ana:{quoted}@localhost:1/0")
    assert options["password"] == password
    assert options["username"] == "ana"


def test_timeouts_tls_and_no_retries() -> None:
    _, options = parsed("rediss://localhost")
    assert options["ssl"] is True
    assert options["socket_timeout"] == 0.5
    assert options["max_connections"] == 7
    assert options["retry"] is None
    assert float(str(options["socket_connect_timeout"])) > 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://h:port/0",
        "redis://h:1/x",
        "redis://[::1",
    ],
)
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(RedisUrlError):
        connection_string(url, 0.5)


def test_messages_never_hold_the_password() -> None:
    assert redacted("redis://:secret@h:1/0") == "redis://:***@h:1/0"
    assert redacted("redis://ana:se/cr@et@h:1/0") == "redis://ana:***@h:1/0"
    assert redacted("redis://h:1/0") == "redis://h:1/0"
    with pytest.raises(RedisUrlError) as caught:
        connection_string("http://u:secret@h", 0.5)
    assert "secret" not in str(caught.value)
