"""Who reaches what: a stranger's pod none of our ports, a pod of the namespace the serving port alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.client import start
from tests.cluster.conftest import Living, temporary_namespace
from tests.cluster.kube import Object, kubectl, read, until
from tests.cluster.lives import whole
from tests.cluster.reach import Place, reached
from tests.cluster.release import image

SERVE = 8000
LISTENER = 8099
LISTENS = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def listening(namespace: str, pod: Object) -> set[int]:
    """The TCP ports on which anything in the pod listens for others, Ray's own random ones included."""
    found: set[int] = set()
    container = pod["spec"]["containers"][0]["name"]
    for table in ("tcp", "tcp6"):
        name = pod["metadata"]["name"]
        text = kubectl(
            "--namespace", namespace, "exec", name, "-c", container, "--", "cat", f"/proc/net/{table}"
        )
        for line in text.splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == LISTENS and not address.endswith("0100007F"):
                found.add(int(port, 16))
    return found


@pytest.fixture(scope="module")
def places(living: Living) -> dict[str, list[Place]]:
    """Component → where its pods listen, and where they say they do."""
    whole(living.release, 2)
    found: dict[str, list[Place]] = {}
    for pod in living.release.pods():
        declared = {
            port["containerPort"]
            for kind in ("containers", "initContainers")
            for container in pod["spec"].get(kind, [])
            for port in container.get("ports", [])
        }
        ports = listening(living.release.namespace, pod) | declared
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        found.setdefault(component, []).extend((pod["status"]["podIP"], port) for port in sorted(ports))
    return found


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """The namespace of a pod that has nothing to do with the release."""
    repository, tag = image()
    with temporary_namespace("stranger") as namespace:
        start(namespace, f"{repository}:{tag}")
        yield namespace


def test_there_is_something_to_reach(places: dict[str, list[Place]]) -> None:
    ports = {component: {port for _, port in where} for component, where in places.items()}
    assert {SERVE, 8080, 9464} <= ports["worker-cpu"]
    assert {6379, 8265, 10001} <= ports["head"]
    assert ports["redis"] == {6379}


def test_a_stranger_reaches_no_port_of_any_pod(stranger: str, places: dict[str, list[Place]]) -> None:
    everywhere = [place for where in places.values() for place in where]
    assert len(everywhere) > 20
    assert reached(stranger, [("kubernetes.default", 443)]), "the stranger has no network at all"
    assert reached(stranger, everywhere) == []


def test_a_pod_of_the_namespace_reaches_the_serving_port_alone(
    living: Living, places: dict[str, list[Place]]
) -> None:
    everywhere = [place for where in places.values() for place in where]
    workers = {place for place in places["worker-cpu"] if place[1] == SERVE}
    opened = set(reached(living.release.namespace, everywhere))
    assert workers <= opened
    assert {port for _, port in opened} == {SERVE}


def test_workers_reach_no_stranger(living: Living, stranger: str) -> None:
    """What runs with a bundle finds nobody to tell; a pod without a policy finds the same place open."""
    listen = f"nohup python -m http.server {LISTENER} >/dev/null 2>&1 &"
    kubectl("--namespace", stranger, "exec", "client", "--", "sh", "-c", listen)
    place = (read("pod", stranger, "client")["status"]["podIP"], LISTENER)
    namespace = living.release.namespace
    until("the stranger's listener", lambda: reached(namespace, [place]), within_s=60)
    [worker, *_] = living.release.pods("worker-cpu")
    assert reached(namespace, [place], worker["metadata"]["name"], "ray") == []
