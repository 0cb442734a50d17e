"""Redis tells which rows were written: server-assisted client-side caching in its broadcasting mode, on a
connection of its own (https://redis.io/docs/latest/develop/reference/client-side-caching/).

redis-py caches replies itself for blocking connections only. In broadcasting mode the server remembers
nothing of what we have read; it names every key with our prefix that anybody writes, 50 bytes each. The
connection redirects its messages to itself and subscribes to them (RESP2), so that they are read as replies.

Does not belong here: what is kept (`features.cached`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from redis.asyncio import Connection, Redis
from redis.exceptions import RedisError

from features.redis_address import CONNECT_TIMEOUT_S, RedisAddress
from features.redis_errors import explain

log = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Seconds between two questions whether the connection lives."""

SILENT = 2
"""Periods in a row without an answer after which it is taken for lost. Not one: after a pause of this process
the answer lies there unread when the period is over. Where a network loses messages without an error,
writes are not reported for one period more than this."""

AGAIN_S = 2.0
"""Seconds before a connection that was lost or refused is tried again. Until then every row is read."""

COMMAND_S = 1.0
"""Seconds for the server to answer the commands that open the connection."""

CHANNEL = b"__redis__:invalidate"
"""Where Redis publishes the keys that were written, for connections that speak RESP2."""


class Listener(Protocol):
    def on_written(self, keys: Sequence[bytes] | None) -> None:
        """These keys were written; None: any may have been."""
        ...

    def on_tracked(self, yes: bool) -> None:
        """Whether every write is reported from now on, or none."""
        ...


async def listen(redis_url: str, prefix: bytes, listener: Listener) -> None:
    """Reports every write to a key that begins with `prefix`, until it is cancelled. Lost or refused, the
    connection is made anew; a server that cannot do it (before Redis 6, or a proxy) is asked again and again,
    which costs it a connection every `AGAIN_S`."""
    address, warned = RedisAddress.parse(redis_url), False
    while True:
        try:
            async with _connected(address, prefix) as connection:
                listener.on_tracked(True)
                warned = False
                await _follow(connection, listener)
        except (RedisError, OSError, TimeoutError) as error:
            if not warned:  # once an outage
                log.warning(
                    "every row is read, as Redis does not say what is written: Redis at %s %s",
                    address,
                    explain(error),
                )
            warned = True
        finally:
            listener.on_tracked(False)
        await asyncio.sleep(AGAIN_S)


@asynccontextmanager
async def _connected(address: RedisAddress, prefix: bytes) -> AsyncIterator[Connection]:
    # No timeout of the socket, which would put asyncio.wait_for around every command: in Python 3.11 that can
    # lose a cancellation (https://github.com/python/cpython/issues/81839). The deadlines are those below.
    pool = Redis(**address.options(None), protocol=2).connection_pool
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + COMMAND_S):
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # its decorator has none
            await connection.send_command("CLIENT", "ID")
            own = await connection.read_response(disconnect_on_error=False)
            await connection.send_command(
                "CLIENT", "TRACKING", "ON", "REDIRECT", own, "BCAST", "PREFIX", prefix
            )
            await connection.read_response(disconnect_on_error=False)
            await connection.send_command("SUBSCRIBE", CHANNEL)
            await connection.read_response(disconnect_on_error=False)
        yield connection
    finally:
        # redis-py does not wait for the end of TLS where a read is cancelled: a loop that ends then leaves
        # the socket open. A fault of the closing must not hide a cancellation.
        with suppress(RedisError, OSError):
            await pool.disconnect()


async def _follow(connection: Connection, listener: Listener) -> None:
    """Reads what the server sends.

    Raises:
        TimeoutError: the server is silent.
        RedisError, OSError: the connection is gone.
    """
    clock, silent = asyncio.get_running_loop().time, 0
    while silent < SILENT:
        silent, until = silent + 1, clock() + PERIOD_S
        await connection.send_command("PING")
        while (left := until - clock()) > 0:
            message = await connection.read_response(timeout=left, disconnect_on_error=False)
            if message is None:
                break  # nothing came in time
            silent = 0
            if message[0] == b"message":  # else the pong
                keys = message[2]  # anybody may publish anything here
                listener.on_written(keys if isinstance(keys, list) else None)
    raise TimeoutError(f"it was silent for {SILENT * PERIOD_S:g} s")
