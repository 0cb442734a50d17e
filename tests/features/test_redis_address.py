"""Redis URLs, as Feast reads them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from features.feast_api import RedisOnlineStore
from features.marker import materialized
from features.redis_address import TLS_OPTIONS, RedisAddress, RedisUrlError, connection_string, redacted
from features.store import OnlineStoreError


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


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:s3cr/et@cache:6379", "%2F"),
        ("redis://:s3cr#et@cache:6379", "%23"),
        ("redis://:s3cr?et@cache:6379", "%3F"),
        ("redis://:s3%cret@cache:6379", "%25"),
        ("redis://:s3cret@cache:6379\n", "line break"),
        ("redis://s3cret@cache:6379", ":password@host"),
        ("redis://[::1]:6379/0", "IPv6"),
        ("redis://h:1/0#x", "holds a #"),
        ("redis://h:1/0?db=1&db=2", "twice"),
        ("redis://h:1/3?db=1", "not one whole number"),
        ("redis://h:1/0?password=s3cret", "stands before the host"),
        ("redis://h:1/0?socket_timeout=3", "socket_timeout cannot be set"),
        ("redis://h:1/0?protocol=3", "protocol is not one that Marquee passes on"),
        ("redis://h:1/0?ssl_ca_certs=/x", "rediss://"),
        ("rediss://h:1/0?ssl_ca_cert=/x", "perhaps ssl_ca_certs was meant"),
        ("rediss://h:1/0?ssl_cert_reqs=maybe", "required, optional, none"),
        ("rediss://h:1/0?ssl_check_hostname=1", "true, false"),
        ("rediss://h:1/0?ssl_ca_certs=", "is empty"),
        ("rediss://h:1/0?ssl_keyfile=/x", "needs the certificate"),
        ("rediss://h:1/0?ssl_ca_certs", "name=value"),
        ("unix://run/redis.sock", "absolute path"),
    ],
)
def test_a_refusal_says_what_to_write(url: str, why: str) -> None:
    with pytest.raises(RedisUrlError) as caught:
        RedisAddress.parse(url)
    assert why in str(caught.value)
    assert "s3c" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_tls_reach_every_client_alike(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.touch()
    query = f"ssl_ca_certs={pem}&ssl_certfile={pem}&ssl_keyfile={pem}"
    query += "&ssl_cert_reqs=OPTIONAL&ssl_check_hostname=false"
    address = RedisAddress.parse(f"rediss://h/?{query}&ssl_password=1234&ssl_ciphers=A,B")
    _, feast = RedisOnlineStore._parse_connection_string(address.feast(0.5))
    plain = {name: value for name, value in address.options(0.5).items() if name not in ("host", "port")}
    assert feast == plain
    assert plain["ssl_cert_reqs"] == "optional"
    assert plain["ssl_check_hostname"] is False
    assert plain["ssl_password"] == "1234"
    for client in (Redis, AsyncRedis):
        assert client(**address.options(0.5)).connection_pool.connection_kwargs["ssl_ciphers"] == "A,B"
    assert set(TLS_OPTIONS) <= set(inspect.signature(AsyncRedis).parameters)


def test_messages_show_where_and_never_who() -> None:
    assert redacted("redis://:secret@h:1/0") == "redis://***@h:1/0"
    assert redacted("rediss://ana:se:cr%40et@h:1/0?ssl_password=x1y2z3") == "rediss://***@h:1/0"
    assert redacted("unix://:secret@/run/x.sock") == "unix://***@/run/x.sock"
    assert redacted("redis://h:1/0") == "redis://h:1/0"
    assert redacted("redis://ana:se/cr@et@h:1/0") == "a malformed REDIS_URL"
    address = RedisAddress.parse("rediss://ana:secret@h:1/0?ssl_password=x1y2z3")
    assert not re.search("ana|secret|x1y2z3", repr(address))


SPECIAL = st.text(st.sampled_from("/?#@:%&=[] \n\tabcsecret0123456789é\u2028"), min_size=3, max_size=12)
PASSWORDS = st.one_of(SPECIAL, st.text(st.characters(exclude_categories=["Cs"]), min_size=3, max_size=30))


@given(PASSWORDS, PASSWORDS)
def test_whatever_the_password_encoded_it_arrives(user: str, password: str) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h:1/2"
    address = RedisAddress.parse(url)
    assert (address.username, address.password) == (user, password)
    assert (address.host, address.port, address.database) == ("h", 1, 2)
    _, options = RedisOnlineStore._parse_connection_string(connection_string(url, 0.5))
    assert (options["username"], options["password"]) == (user, password)


SHAPES = [
    "redis://:{}@cache:6379/0",
    "redis://ana:{}@cache:6379/0",
    "rediss://ana:{}@cache/0?ssl_cert_reqs=none",
    "redis://:{}@cache:port",
    "redis://:{}@cache:1/x",
    "redis://:{}@cache:1/0?nothing=1",
    "redis://:{}@[::1]:1",
    "redis://:{}@",
    "redis://:{}",
    "redis://ana:{}/0",
    "redis://ana:{}",
    "redis://{}@cache",
    "redis://cache:1/0?password={}",
    "redis://cache:1/0?{}=1",
    "redis://cache:1/0#{}",
    "rediss://cache:1/0?ssl_password={}&nothing=1",
    "redis:/:{}@cache",
    "redis:{}@cache",
    "http://:{}@cache",
    "unix://:{}@cache",
    ":{}@cache",
    "{}",
]


def said_of(url: str) -> str | None:
    """The refusal; None where it is a URL after all."""
    try:
        RedisAddress.parse(url)
    except RedisUrlError as error:
        return f"{error} {redacted(url)} {error!r}"
    return None


STRANGE = ("☃☃☃☃", "☃/☃☃", "☃?☃", "☃%☃☃☃", "☃ ☃☃", "☃☃#", "☃?☃=☃&☃=☃", "☃@☃:☃")
"""Passwords that no message can hold by chance, which are malformed in every way."""

VOCABULARY = " ".join(
    sorted(
        {
            said
            for shape in (*SHAPES, "redis://h:1/0?{}timeout=1", "rediss://h:1/0?ssl_cert_reqs={}")
            for password in STRANGE
            if (said := said_of(shape.replace("{}", password)))
        }
    )
)
"""What messages say anyway: of those passwords, of which none is in it."""


def test_the_vocabulary_of_refusals_holds_no_password() -> None:
    assert "☃" not in VOCABULARY
    assert len(VOCABULARY) > 1000


@given(st.sampled_from(SHAPES), PASSWORDS)
@example("redis://:{}@cache:6379", "s3cr/et")
@example("redis://cache:1/0?{}=1", "qwertz")
@example("redis://:{}", "12?secretword=1")
def test_of_a_malformed_url_no_part_of_the_password_is_said(shape: str, password: str) -> None:
    said = said_of(shape.replace("{}", password))
    if said is None:
        return
    parts = {password[n : n + 3] for n in range(len(password) - 2)}
    assert not [part for part in parts if part in said and part not in VOCABULARY], said


@settings(max_examples=25, deadline=None)
@given(PASSWORDS)
def test_of_a_server_that_is_not_there_no_part_of_the_password_is_said(password: str) -> None:
    with pytest.raises(OnlineStoreError) as caught:
        materialized(f"redis://ana:{quote(password, safe='')}@127.0.0.1:1/0")
    with pytest.raises(OnlineStoreError) as other:
        materialized("redis://bob:☃☃☃☃@127.0.0.1:1/0")
    assert str(caught.value) == str(other.value)
