"""HTTP clients for what is not Kubernetes: one a call, so that nothing stays open in a controller that runs
for months; the certificates, which cost most of a client, are read once.
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


def client(
    timeout_s: float, transport: httpx.BaseTransport | None = None, headers: dict[str, str] | None = None
) -> httpx.Client:
    """Deadlines for connecting, reading and writing each; no proxy from the environment."""
    return httpx.Client(
        timeout=timeout_s, transport=transport, headers=headers, verify=_certificates(), trust_env=False
    )


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
