"""Real Valkey servers that are not as ours: behind TLS, of a cluster, replicas, full."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from features.embedded import _binary, _free_port
from features.with_parent import die_with_parent

READY_S = 60.0


@contextmanager
def valkey(directory: Path, *options: str) -> Iterator[int]:
    """A server with such lines in its configuration; its port."""
    directory.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    lines = (f"port {port}", "bind 127.0.0.1", 'save ""', *options)
    (directory / "valkey.conf").write_text("\n".join(lines) + "\n")
    with (directory / "log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen(
            [_binary(), "valkey.conf"],
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(),
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        deadline = time.monotonic() + READY_S
        while b"Ready to accept" not in (directory / "log").read_bytes():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port


def node_of_a_cluster() -> tuple[str, str]:
    """The lines that make a server a node, its bus on a free port.

    The default, 10,000 above the server's own, is no port at all for a server above 55,535.
    """
    return "cluster-enabled yes", f"cluster-port {_free_port()}"


def cluster_of_two(stack: ExitStack, directory: Path) -> tuple[int, int]:
    """Two nodes that have met; half of the slots are at each."""
    ports = [
        stack.enter_context(
            valkey(directory / str(n), *node_of_a_cluster(), "cluster-require-full-coverage no")
        )
        for n in range(2)
    ]
    first, second = (Redis(port=port) for port in ports)
    with first, second:
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        bus = int(second.execute_command("CONFIG GET", "cluster-port")["cluster-port"])
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1], bus)
        deadline = time.monotonic() + READY_S
        while any(
            client.execute_command("CLUSTER INFO")["cluster_slots_ok"] != "16384"
            for client in (first, second)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return ports[0], ports[1]


def until_replica(port: int) -> None:
    with Redis(port=port) as client:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with suppress(RedisError):
                if client.info("replication")["master_link_status"] == "up":
                    return
            time.sleep(0.05)
    raise AssertionError("the replica never came up")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def listening(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on a thread of its own, beside any loop of the test; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(READY_S)

    async def stop() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.1)  # what was aborted is closed by the loop, a little later

    server = run(asyncio.start_server(handler, "127.0.0.1", 0, ssl=context))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        run(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def tls_front(behind: int, certificate: Path, key: Path, clients: Path | None = None) -> Iterator[int]:
    """A port at which TLS ends and whose bytes go to and from the server behind it (built without TLS); with
    `clients` only those with a certificate of that authority come in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(1 << 16):
                writer.write(part)
                await writer.drain()
        writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", behind)
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))
        finally:
            inner[1].transport.abort()
            writer.transport.abort()

    with listening(relay, context) as port:
        yield port


@contextmanager
def slow_front(behind: int, delay_s: float) -> Iterator[int]:
    """A port whose bytes go to the server behind it at once, and come back from it after `delay_s`."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", behind)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, after_s: float) -> None:
            with suppress(OSError):
                while part := await source.read(1 << 16):
                    await asyncio.sleep(after_s)
                    sink.write(part)

        try:
            with suppress(asyncio.CancelledError):
                await asyncio.gather(pump(reader, inner[1], 0.0), pump(inner[0], writer, delay_s))
        finally:
            inner[1].transport.abort()
            writer.transport.abort()

    with listening(relay) as port:
        yield port


@contextmanager
def answering(line: bytes) -> Iterator[int]:
    """A server that answers every command with the same line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.CancelledError):
                while part := await reader.read(1 << 16):
                    writer.write(line * max(len(re.findall(rb"^\*[0-9]+\r\n", part, re.MULTILINE)), 1))
                    await writer.drain()
        finally:
            writer.transport.abort()

    with listening(answer) as port:
        yield port
