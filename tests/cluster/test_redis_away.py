"""Redis is away for longer than Ray's control store lives without it: replicas answer, a head comes back."""

from __future__ import annotations

import time

from tests.cluster.bundles import USERS
from tests.cluster.conftest import Living
from tests.cluster.kube import Object, kubectl, ready, until
from tests.cluster.lives import settled, whole

AWAY_S = 75.0
"""Seconds; Ray's control store ends within 4, and by default gives up waiting for Redis after 60."""
BACK_S = 300.0
"""Seconds for the head to be ready once Redis is: it looks twice a second, and starts in a minute."""


def scale(living: Living, replicas: int) -> None:
    name = f"statefulset/{living.release.name}-redis"
    kubectl("--namespace", living.release.namespace, "scale", name, f"--replicas={replicas}")


def head(living: Living) -> Object:
    """The newest one that is to stay."""
    pods = living.release.staying("head")
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default={})


def test_no_request_fails_while_redis_is_away_and_the_head_comes_back_by_itself(living: Living) -> None:
    running = whole(living.release, 2)
    before = head(living)["metadata"]["uid"]
    with living.client.load(USERS, 10.0) as count:
        scale(living, 0)
        try:
            until("Ray's control store to end", lambda: _another(living, before), BACK_S)
            time.sleep(AWAY_S)
            waiting = head(living)["metadata"]["uid"]
            assert not ready(head(living)), "it has its state from Redis, which is not there"
        finally:
            scale(living, 1)
        until("the head", lambda: ready(head(living)), BACK_S)
        assert head(living)["metadata"]["uid"] == waiting, "it waited, and was not started again and again"
    print(f"{count.failed} of {count.sent} failed: {count.failures}; {count.degraded} degraded")
    assert count.failures == {}
    assert settled(living.release, 2) == running


def _another(living: Living, before: str) -> bool:
    found = head(living)
    return bool(found) and found["metadata"]["uid"] != before
