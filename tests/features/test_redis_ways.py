"""Every way to a Redis that a URL can name, on every path that uses it: writing the rows, the marker, reading
through Feast, hearing of writes."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from features import feast_store, invalidation, redis_address
from features.embedded import EmbeddedRedis
from features.feast_config import feature_store
from features.feast_store import FeastOnlineStore
from features.invalidation import listen
from features.marker import connect, materialized, materialized_at, up_to_date
from features.materialize import materialize
from features.redis_address import WRITE_TIMEOUT_S, RedisUrlError, connection_string
from features.store import OnlineStoreError
from tests.envtest import self_signed
from tests.features.servers import (
    answering,
    cluster_of_two,
    node_of_a_cluster,
    slow_front,
    tls_front,
    until_replica,
    valkey,
)
from tests.features.worlds import films

WORLD = films()
SCHEMA = WORLD.schema
PASSWORD = "a/b?c#d@e:f%41 g&h=i,j\"k'"
"""Everything that means something in a URL, or in Feast's connection string."""


class Noted:
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.keys: asyncio.Queue[bytes] = asyncio.Queue()

    def on_written(self, keys: Sequence[bytes] | None) -> None:
        for key in keys or ():
            self.keys.put_nowait(key)

    def on_tracked(self, yes: bool) -> None:
        if yes:
            self.ready.set()


def write_rows(url: str, directory: Path) -> None:
    store = feature_store(SCHEMA, directory, connection_string(url, WRITE_TIMEOUT_S))
    materialize(store, SCHEMA, *WORLD.rows(SCHEMA), url, "v1")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedRedis, Path, Path]]:
    """A server, and the certificate and key of what stands before it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder)
    with EmbeddedRedis(folder / "redis") as server:
        yield server, certificate, key


WAYS = ["authority", "no check", "client certificate", "socket", "odd password", "second database"]


@pytest.fixture(params=WAYS)
def url(
    request: pytest.FixtureRequest, behind: tuple[EmbeddedRedis, Path, Path], tmp_path: Path
) -> Iterator[str]:
    server, certificate, key = behind
    login, place = server.url.removeprefix("redis://").removesuffix("/0").split("@")
    inner = int(place.rpartition(":")[2])
    with Redis.from_url(server.url) as client:
        client.flushall()
    with ExitStack() as stack:
        match request.param:
            case "authority":
                port = stack.enter_context(tls_front(inner, certificate, key))
                yield f"rediss://{login}@localhost:{port}/0?ssl_ca_certs={quote(str(certificate))}"
            case "no check":
                port = stack.enter_context(tls_front(inner, certificate, key))
                yield f"rediss://{login}@127.0.0.1:{port}/0?ssl_cert_reqs=none"
            case "client certificate":
                port = stack.enter_context(tls_front(inner, certificate, key, clients=certificate))
                yield (
                    f"rediss://{login}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}&ssl_check_hostname=false"
                    f"&ssl_certfile={certificate}&ssl_keyfile={key}"
                )
            case "socket":
                stack.enter_context(
                    valkey(tmp_path / "s", f"unixsocket {tmp_path}/s/v.sock", "requirepass secret")
                )
                yield f"unix://:secret@{tmp_path}/s/v.sock?db=1"
            case "odd password":
                port = stack.enter_context(valkey(tmp_path / "s"))
                with Redis(port=port) as client:
                    client.execute_command(
                        "ACL", "SETUSER", "an/a", "on", "~*", "&*", "+@all", f">{PASSWORD}"
                    )
                    client.config_set("requirepass", "of another user")
                yield f"redis://an%2Fa:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/0"
            case "second database":
                yield f"redis://{login}@{place}/2"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake on a busy machine takes longer than a request could wait."""
    for module in (redis_address, feast_store, invalidation):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 30.0)


@pytest.mark.usefixtures("patient")
async def test_every_path_takes_every_way(url: str, tmp_path: Path) -> None:
    write_rows(url, tmp_path)
    assert materialized(url) == "v1"
    up_to_date(url, 5.0)
    assert materialized_at(url) == 5.0
    store = FeastOnlineStore(SCHEMA, url, read_timeout_s=30.0)
    assert (await store.read_users(["u1"])).columns["zip_code"].tolist() == ["00001"]
    await store.close()
    listener = Noted()
    listening = asyncio.create_task(listen(url, b"marquee-test", listener))
    async with asyncio.timeout(60.0):
        await listener.ready.wait()
        with connect(url) as client:
            client.set("marquee-test:1", "x")
        assert await listener.keys.get() == b"marquee-test:1"
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.usefixtures("patient")
def test_a_listener_that_is_cancelled_leaves_no_socket_open(behind: tuple[EmbeddedRedis, Path, Path]) -> None:
    """TLS takes leave in a round trip: who does not wait for it ends before its socket is closed."""
    server, certificate, key = behind
    login, place = server.url.removeprefix("redis://").removesuffix("/0").split("@")

    async def listen_once(port: int) -> None:
        listener = Noted()
        url = f"rediss://{login}@127.0.0.1:{port}/0?ssl_cert_reqs=none"
        listening = asyncio.create_task(listen(url, b"marquee-test", listener))
        async with asyncio.timeout(60.0):
            await listener.ready.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    with (
        tls_front(int(place.rpartition(":")[2]), certificate, key) as inner,
        slow_front(inner, 0.1) as port,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        asyncio.run(listen_once(port))
        gc.collect()
    assert [str(each.message) for each in caught] == []


async def failures(url: str, tmp_path: Path) -> dict[str, str]:
    """What each path says of it."""
    said = {}
    with pytest.raises(OnlineStoreError) as caught:
        materialized(url)
    said["marker"] = str(caught.value)
    with pytest.raises(OnlineStoreError) as caught:
        write_rows(url, tmp_path)
    said["materialize"] = str(caught.value)
    store = FeastOnlineStore(SCHEMA, url, read_timeout_s=30.0)
    with pytest.raises(OnlineStoreError) as caught:
        await store.read_users([f"u{n}" for n in range(12)])
    said["read"] = str(caught.value)
    await store.close()
    return said


@pytest.mark.usefixtures("patient")
async def test_a_stranger_s_certificate_is_refused_with_what_to_do(
    behind: tuple[EmbeddedRedis, Path, Path], tmp_path: Path
) -> None:
    server, certificate, key = behind
    login, place = server.url.removeprefix("redis://").removesuffix("/0").split("@")
    with tls_front(int(place.rpartition(":")[2]), certificate, key) as port:
        for said in (await failures(f"rediss://{login}@localhost:{port}/0", tmp_path)).values():
            assert "not trusted" in said
            assert "ssl_ca_certs=" in said
        for said in (await failures(f"redis://{login}@localhost:{port}/0", tmp_path)).values():
            assert "rediss:// where that port speaks TLS" in said
    for option in ("ssl_ca_certs", "ssl_certfile"):
        with pytest.raises(RedisUrlError, match=f"{option}.*cannot be read"):
            materialized(f"rediss://h/0?{option}={tmp_path}/none.pem")


async def test_tls_to_a_server_without_it_is_an_error_in_time(
    behind: tuple[EmbeddedRedis, Path, Path], tmp_path: Path
) -> None:
    url = behind[0].url.replace("redis://", "rediss://")
    for said in (await failures(url, tmp_path)).values():
        assert "redis:// where it does not" in said


async def test_a_node_of_a_cluster_is_refused_in_words(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for port in cluster_of_two(stack, tmp_path):
            said = await failures(f"redis://127.0.0.1:{port}/0", tmp_path)
            assert all("Redis Cluster, which Marquee does not support" in line for line in said.values()), (
                said
            )


async def test_a_cluster_of_one_node_that_has_all_slots_is_refused_before_a_row_is_written(
    tmp_path: Path,
) -> None:
    with (
        valkey(tmp_path / "one", *node_of_a_cluster()) as port,
        Redis(port=port) as client,
    ):
        with pytest.raises(OnlineStoreError, match="does not support"):
            write_rows(f"redis://127.0.0.1:{port}/0", tmp_path)
        assert client.info("keyspace") == {}


async def test_who_is_not_let_in_reads_why(tmp_path: Path) -> None:
    with valkey(tmp_path / "s", "requirepass right-one") as port:
        for said in (await failures(f"redis://127.0.0.1:{port}/0", tmp_path)).values():
            assert "asks for a password, and REDIS_URL has none" in said
        for said in (await failures(f"redis://:wrong-one@127.0.0.1:{port}/0", tmp_path)).values():
            assert "does not accept the user and password" in said
            assert "wrong-one" not in said
        with Redis(port=port, password="right-one") as client:
            client.config_set("requirepass", "")
        for said in (await failures(f"redis://:wrong-one@127.0.0.1:{port}/0", tmp_path)).values():
            assert "asks for no password" in said


def test_a_user_who_may_not_write_reads_why(tmp_path: Path) -> None:
    with valkey(tmp_path / "s") as port:
        with Redis(port=port) as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", "~*", "+@read", ">pass-word")
        with pytest.raises(OnlineStoreError, match="does not let this user do that") as caught:
            write_rows(f"redis://reader:pass-word@127.0.0.1:{port}/0", tmp_path)
        assert "pass-word" not in str(caught.value)


def test_a_replica_is_read_and_refuses_writes_in_words(tmp_path: Path) -> None:
    with valkey(tmp_path / "p") as primary:
        write_rows(f"redis://127.0.0.1:{primary}/0", tmp_path)
        with valkey(tmp_path / "r", f"replicaof 127.0.0.1 {primary}") as port:
            until_replica(port)
            url = f"redis://127.0.0.1:{port}/0"
            assert materialized(url) == "v1"
            with pytest.raises(OnlineStoreError, match="a replica that only reads: name the primary"):
                write_rows(url, tmp_path)
            with pytest.raises(OnlineStoreError, match="a replica that only reads: name the primary"):
                up_to_date(url, 1.0)


def test_a_full_server_says_that_it_is_full(tmp_path: Path) -> None:
    with valkey(tmp_path / "s", "maxmemory-policy noeviction") as port:
        with Redis(port=port) as client:
            client.set("other", "x" * 100_000)
            client.config_set("maxmemory", 1)
        with pytest.raises(OnlineStoreError, match="is full \\(its maxmemory\\)") as caught:
            write_rows(f"redis://127.0.0.1:{port}/0", tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading its data: wait"),
        (
            b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
            "lost its primary",
        ),
        (b"-ERR something that nobody knows\r\n", "answers with an error: something that nobody knows"),
    ],
    ids=["loading", "primary down", "another"],
)
async def test_what_a_server_says_is_said_with_what_to_do(tmp_path: Path, line: bytes, meaning: str) -> None:
    with answering(line) as port:
        said = await failures(f"redis://127.0.0.1:{port}/0", tmp_path)
        assert all(meaning in one for one in said.values()), said
