"""Redis says which rows were written: server-assisted client-side caching in its broadcasting mode, on a
connection of its own (https://redis.io/docs/latest/develop/reference/client-side-caching/).

redis-py caches replies itself for blocking connections only. In broadcasting mode the server remembers
nothing of what we have read; it names every key with our prefix that anybody writes, 50 bytes each.

Does not belong here: what is kept (`features.cached`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from redis.asyncio import Connection, Redis
from redis.exceptions import RedisError

from features.redis_address import CONNECT_TIMEOUT_S, RedisAddress
from features.redis_errors import explain

Heard = Callable[[Sequence[bytes] | None], None]

log = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Seconds between two questions whether the connection lives."""

SILENT = 2
"""Periods in a row without an answer after which it is taken for lost. Not one: after a pause of this process
the answer lies there unread when the period is over. Where a network swallows messages and tells nobody,
writes are not heard of for one period more than this."""

AGAIN_S = 2.0
"""Seconds before a connection that was lost or refused is tried again. Until then every row is read."""

COMMAND_S = 1.0
"""Seconds for the server to answer the commands that open the connection."""


class Listener(Protocol):
    def heard(self, keys: Sequence[bytes] | None) -> None:
        """These keys were written; None: any may have been."""
        ...

    def listening(self, yes: bool) -> None:
        """From now on every write is heard of, or none is."""
        ...


async def listen(redis_url: str, prefix: bytes, listener: Listener) -> None:
    """Tells of every write to a key that begins with `prefix`, until it is cancelled. Lost or refused, the
    connection is made anew; a server that cannot do it (before Redis 6, or a proxy) is asked again and again,
    which costs it a connection every `AGAIN_S`."""
    address, told = RedisAddress.parse(redis_url), False
    while True:
        try:
            async with _connected(address, prefix, listener.heard) as connection:
                listener.listening(True)
                told = False
                await _follow(connection)
        except (RedisError, OSError, TimeoutError) as error:
            if not told:  # once an outage
                log.warning(
                    "every row is read, as Redis does not say what is written: Redis at %s %s",
                    address,
                    explain(error),
                )
            told = True
        finally:
            listener.listening(False)
        await asyncio.sleep(AGAIN_S)


@asynccontextmanager
async def _connected(address: RedisAddress, prefix: bytes, heard: Heard) -> AsyncIterator[Connection]:
    # No timeout of the socket, which would put asyncio.wait_for around every command: in Python 3.11 that can
    # lose a cancellation (https://github.com/python/cpython/issues/81839). The deadlines are those below.
    pool = Redis(**address.options(None), protocol=3).connection_pool
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + COMMAND_S):
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # its decorator has none
            # Only the parser takes a handler; redis-py's own cache for blocking connections gives it so.
            connection._parser.set_invalidation_push_handler(_handler(heard))
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
            await connection.read_response(disconnect_on_error=False)
        yield connection
    finally:
        # redis-py does not wait for the end of TLS where a read is cancelled: a loop that ends then leaves
        # the socket open. A fault of the closing must not hide a cancellation.
        with suppress(RedisError, OSError):
            await pool.disconnect()


def _handler(heard: Heard) -> Callable[[tuple[bytes, Sequence[bytes] | None]], Awaitable[None]]:
    async def handle(message: tuple[bytes, Sequence[bytes] | None]) -> None:
        _, keys = message
        heard(keys)

    return handle


async def _follow(connection: Connection) -> None:
    """Reads what is said.

    Raises:
        TimeoutError: the server is silent.
        RedisError, OSError: the connection is gone.
    """
    clock, silent = asyncio.get_running_loop().time, 0
    while silent < SILENT:
        silent, until = silent + 1, clock() + PERIOD_S
        await connection.send_command("PING")
        while (left := until - clock()) > 0:
            # None: a write, which the handler was told of, or nothing. The one other answer is the pong.
            pong = await connection.read_response(timeout=left, disconnect_on_error=False, push_request=True)
            if pong is not None:
                silent = 0
    raise TimeoutError(f"it was silent for {SILENT * PERIOD_S:g} s")
