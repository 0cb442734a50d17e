"""Ports of this machine: is the wanted one free, and which others are."""

from __future__ import annotations

import random
import socket
from contextlib import closing

from serving.settings import SettingError, Settings

PORT_BLOCK = 25
"""Ports a run takes beside PORT: four of HAProxy and its fallback, ten for HTTP replicas, ten for gRPC, and
one at which its Ray is joined."""

BLOCK_STARTS = range(20_000, 32_000, PORT_BLOCK)
"""Below Linux's ephemeral ports (from 32768), so that no outgoing connection takes one in the meantime."""


def check_port(settings: Settings) -> None:
    """Raises SettingError where HOST:PORT cannot be listened on. Looked at before anything slow happens."""
    try:
        addresses = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = addresses[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise SettingError(f"HOST {settings.host!r} is not an address ({error.strerror}); set HOST") from None
    except OSError as error:
        raise SettingError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            f"stop what uses it or choose another port, e.g. PORT={settings.port + 1}"
        ) from None


def free_block(beside: int | None = None) -> range:
    """Ports that are all free now. Where to look first is drawn, so that two runs seldom meet.

    Args:
        beside: a port that is to be taken later, and still looks free.

    Raises:
        SettingError: there is no such block.
    """
    for start in random.sample(BLOCK_STARTS, len(BLOCK_STARTS)):
        block = range(start, start + PORT_BLOCK)
        if beside not in block and all(_is_free(port) for port in block):
            return block
    raise SettingError(
        f"no {PORT_BLOCK} free ports in a row between {BLOCK_STARTS[0]} and {BLOCK_STARTS[-1]}"
    )


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
