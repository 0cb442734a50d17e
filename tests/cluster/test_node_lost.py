"""A node is lost with Redis on it: replicas answer without features, and with them again once it is back.

Losing a node is not Kubernetes' own: MARQUEE_LOSE_NODE and MARQUEE_BACK_NODE are commands to which the name
of the node is added (`docker stop` and `docker start` with kind).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import replace

import pytest

from tests.cluster.bundles import USERS
from tests.cluster.client import Client, start
from tests.cluster.conftest import Living
from tests.cluster.kube import kubectl, read, ready, until
from tests.cluster.lives import settled, whole, workers
from tests.cluster.release import image

LOST_S = 60.0
"""Seconds without the node: Kubernetes notices after 40 to 50."""
COMMAND_S = 120.0
"""Seconds for a node to be ended or started."""
BACK_S = 420.0
"""Seconds until all of its pods are ready again: Redis, and a head that waits for it."""


def run(variable: str, node: str) -> None:
    subprocess.run([*shlex.split(os.environ[variable]), node], check=True, timeout=COMMAND_S)


def alone(living: Living) -> str:
    """A node with Redis, and no worker that answers, on it: it is moved there."""
    taken = {pod["spec"]["nodeName"] for pod in workers(living.release)}
    [redis] = living.release.pods("redis")
    if redis["spec"]["nodeName"] not in taken:
        return str(redis["spec"]["nodeName"])
    for node in taken:
        kubectl("cordon", node)
    try:
        kubectl("--namespace", living.release.namespace, "delete", "pod", redis["metadata"]["name"])
        return until("Redis elsewhere", lambda: _placed(living, taken), BACK_S)
    finally:
        for node in taken:
            kubectl("uncordon", node)


def _placed(living: Living, not_on: set[str]) -> str:
    [redis] = living.release.pods("redis")
    node = str(redis["spec"].get("nodeName", ""))
    return node if ready(redis) and node not in not_on else ""


def elsewhere(living: Living, node: str) -> Client:
    """A client that the node does not take with it."""
    [first, *_] = [pod["spec"]["nodeName"] for pod in workers(living.release)]
    assert first != node
    start(living.release.namespace, ":".join(image()), "watcher", first)
    return replace(living.client, name="watcher")


@pytest.mark.skipif("MARQUEE_LOSE_NODE" not in os.environ, reason="MARQUEE_LOSE_NODE names no command")
def test_a_node_is_lost_with_redis_on_it_and_comes_back(living: Living) -> None:
    running = whole(living.release, 2)
    node = alone(living)
    whole(living.release, 2)
    client = elsewhere(living, node)
    with client.load(USERS, 10.0) as count:
        run("MARQUEE_LOSE_NODE", node)
        try:
            until("the loss", lambda: not ready(read("node", "default", node)), BACK_S)
            time.sleep(LOST_S)
        finally:
            run("MARQUEE_BACK_NODE", node)
        until("Redis", lambda: _redis_ready(living), BACK_S)
        assert settled(living.release, 2) == running
    print(f"{count.failed} of {count.sent} failed: {count.failures}; {count.degraded} degraded")
    assert count.failures == {}
    assert count.degraded > 0
    until("an answer with features", lambda: not living.client.recommend(USERS[0])["degraded"], BACK_S)


def _redis_ready(living: Living) -> bool:
    [redis] = living.release.pods("redis")
    return ready(redis)
