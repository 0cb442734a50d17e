"""A node is lost with Redis on it: replicas answer without features, and with them again once it is back.

Losing a node is not Kubernetes' own: MARQUEE_LOSE_NODE and MARQUEE_BACK_NODE are commands to which the name
of the node is added (`docker stop` and `docker start` with kind).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.cluster.bundles import USERS
from tests.cluster.client import Client, start
from tests.cluster.conftest import Living
from tests.cluster.kube import Object, items, kubectl, read, ready, until
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
    """A node that takes Redis with it and no worker that answers: they are moved. Nor does it take the
    cluster's own network along (DNS, network policies), as a control plane's node would: without that no new
    connection is made anywhere, whatever Marquee does."""
    shared = {pod["spec"]["nodeName"] for pod in items("pods", "kube-system") if _single(pod)}
    every = {node["metadata"]["name"] for node in items("nodes", "default")}
    taken = {pod["spec"]["nodeName"] for pod in workers(living.release)}
    if every <= shared:
        pytest.skip("every node carries something that the whole cluster needs")
    node = min(every - shared, key=lambda name: (name in taken, name))
    with cordoned(node):
        for pod in workers(living.release):
            if pod["spec"]["nodeName"] == node:
                _delete(living, pod)
                whole(living.release, 2)
    if _redis_on(living) != node:
        with cordoned(*every - {node}):
            _delete(living, living.release.pods("redis")[0])
            until("Redis there", lambda: _redis_on(living) == node, BACK_S)
    return node


def _single(pod: Object) -> bool:
    """Whether it stands for the whole cluster: a Deployment's, not one of each node."""
    return any(owner["kind"] == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences", []))


@contextmanager
def cordoned(*nodes: str) -> Iterator[None]:
    """Nothing new is placed on these nodes."""
    try:
        for node in nodes:
            kubectl("cordon", node)
        yield
    finally:
        for node in nodes:
            kubectl("uncordon", node)


def _delete(living: Living, pod: Object) -> None:
    kubectl("--namespace", living.release.namespace, "delete", "pod", pod["metadata"]["name"])


def _redis_on(living: Living) -> str:
    """The node of a Redis that is ready."""
    [redis] = living.release.pods("redis")
    return str(redis["spec"]["nodeName"]) if ready(redis) else ""


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
        until("Redis", lambda: _redis_on(living) != "", BACK_S)
        assert settled(living.release, 2) == running
    print(f"{count.failed} of {count.sent} failed: {count.failures}; {count.degraded} degraded")
    assert count.failures == {}
    assert count.degraded > 0
    until("an answer with features", lambda: not living.client.recommend(USERS[0])["degraded"], BACK_S)
