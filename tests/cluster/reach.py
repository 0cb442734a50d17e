"""Which places accept a connection from a pod, as its policies and theirs allow.

Does not belong here: requests to the service (`client`).
"""

from __future__ import annotations

import json

from tests.cluster.kube import kubectl

Place = tuple[str, int]
"""A host and a TCP port."""
CONNECT_S = 3
"""Seconds for a connection inside a cluster, which takes milliseconds where nobody forbids it."""

CONNECT = """
import asyncio, json, sys

async def reached(host, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), float(sys.argv[2]))
    except OSError:
        return False
    writer.close()
    return True

async def main():
    places = json.loads(sys.argv[1])
    print(json.dumps(await asyncio.gather(*(reached(*place) for place in places))))

asyncio.run(main())
"""


def reached(
    namespace: str, places: list[Place], pod: str = "client", container: str = "client"
) -> list[Place]:
    """Those of the places that accept a connection from the pod."""
    command = ["python", "-c", CONNECT, json.dumps(places), str(CONNECT_S)]
    said = json.loads(kubectl("--namespace", namespace, "exec", pod, "-c", container, "--", *command))
    return [place for place, is_open in zip(places, said, strict=True) if is_open]
