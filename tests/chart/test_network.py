"""NetworkPolicies, evaluated: everything is denied first, and nobody outside reaches Ray's control plane."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.pods import Pod, pods
from tests.chart.rendering import REQUIRED, Chart, Object

DASHBOARD, CONTROL_STORE, CLIENT, SERVE = 8265, 6379, 10001, 8000
ANYBODY: dict[str, Any] = {}
"""A peer that everybody is: a rule without `from`."""
BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8"}}
RELEASE = {"app.kubernetes.io/instance": "marquee"}


def test_every_port_names_its_protocol(objects: list[Object]) -> None:
    """It is a part of the key by which a server merges ports, and Kubernetes 1.20 knows no default for it."""
    services = [port for each in objects if each["kind"] == "Service" for port in each["spec"]["ports"]]
    containers = [
        port
        for each in objects
        for pod in pods(each)
        for container in pod.spec["containers"]
        for port in container.get("ports") or []
    ]
    assert [port for port in services + containers if port.get("protocol") != "TCP"] == []


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a LabelSelector picks a pod with these labels."""
    expressions = [
        {"key": key, "operator": "In", "values": [value]}
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    return all(_holds(each, labels) for each in [*expressions, *(selector.get("matchExpressions") or [])])


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def policies(objects: list[Object], labels: dict[str, str], direction: str) -> list[dict[str, Any]]:
    """The specs of the policies that govern a pod in a direction (Ingress or Egress)."""
    return [
        each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
        and direction in each["spec"]["policyTypes"]
        and selects(each["spec"]["podSelector"], labels)
    ]


def callers(objects: list[Object], labels: dict[str, str], port: int) -> Iterator[dict[str, Any]]:
    """The peers that may open a connection to a port of a pod."""
    governing = policies(objects, labels, "Ingress")
    if not governing:
        yield ANYBODY
    for spec in governing:
        for rule in spec.get("ingress") or []:
            if _opens(rule, port):
                yield from rule.get("from") or [ANYBODY]


def _opens(rule: dict[str, Any], port: int) -> bool:
    ports = rule.get("ports")
    if not ports:
        return True
    return any(
        "port" not in each  # all ports of a protocol
        or isinstance(each["port"], str)  # a name, which may stand for any
        or each["port"] <= port <= each.get("endPort", each["port"])
        for each in ports
        if each.get("protocol", "TCP") == "TCP"
    )


def ours(peer: dict[str, Any]) -> bool:
    """Pods of this release, in its own namespace."""
    selector = peer.get("podSelector") or {}
    return set(peer) == {"podSelector"} and RELEASE.items() <= (selector.get("matchLabels") or {}).items()


def operator(peer: dict[str, Any]) -> bool:
    wanted = (peer.get("podSelector") or {}).get("matchLabels") or {}
    return "ipBlock" not in peer and wanted.get("app.kubernetes.io/name") == "kuberay-operator"


def all_pods(objects: list[Object]) -> list[Pod]:
    found = [pod for each in objects for pod in pods(each)]
    assert found
    return found


def heads(objects: list[Object]) -> list[Pod]:
    found = [pod for pod in all_pods(objects) if ".headGroupSpec." in pod.where]
    assert found
    return found


def test_every_pod_is_denied_everything_first(objects: list[Object]) -> None:
    for pod in all_pods(objects):
        for direction in ("Ingress", "Egress"):
            assert policies(objects, pod.labels, direction), f"{pod.where} is not governed for {direction}"


@pytest.mark.parametrize("port", [DASHBOARD, CONTROL_STORE, CLIENT, 52365])
def test_only_ray_itself_and_its_operator_reach_the_control_plane(objects: list[Object], port: int) -> None:
    for pod in heads(objects):
        for peer in callers(objects, pod.labels, port):
            assert ours(peer) or (port == DASHBOARD and operator(peer)), (
                f"{peer} reaches {port} of {pod.where}"
            )


def test_ray_reaches_itself_and_the_operator_reaches_the_dashboard(objects: list[Object]) -> None:
    """Or nothing would be deployed."""
    for pod in heads(objects):
        peers = list(callers(objects, pod.labels, DASHBOARD))
        assert any(map(ours, peers))
        assert any(map(operator, peers))


def test_nothing_that_leads_inside_names_another_port_than_serving(objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] == "Ingress":
            for rule in each["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    assert path["backend"]["service"]["port"] == {"number": SERVE}
        if each["kind"] == "HTTPRoute":
            for rule in each["spec"]["rules"]:
                assert {backend["port"] for backend in rule["backendRefs"]} == {SERVE}
        if each["kind"] == "Service":
            assert each["spec"].get("type", "ClusterIP") == "ClusterIP"
            assert DASHBOARD not in [port["port"] for port in each["spec"]["ports"]]


TRITON = ("--set=config.runtimes.triton.address=triton.models:9001",)


@pytest.mark.parametrize(
    "runtime", ["replicas.ingress.runtime", "replicas.groups.a.runtime", "replicas.groupDefaults.runtime"]
)
def test_workers_reach_triton_where_a_deployment_computes_there(chart: Chart, runtime: str) -> None:
    group = "--set=replicas.groups.a.stages={retrieval}"
    peers = f"--set-json=networkPolicy.tritonTo={json.dumps([BLOCK])}"

    def ways(*flags: str) -> list[dict[str, Any]]:
        """Egress of a worker to the server's port."""
        objects = chart.objects(*REQUIRED, group, peers, *TRITON, *flags)
        [worker] = [pod for pod in all_pods(objects) if "workerGroupSpecs" in pod.where]
        rules = [rule for spec in policies(objects, worker.labels, "Egress") for rule in spec["egress"]]
        return [rule for rule in rules if {"protocol": "TCP", "port": 9001} in (rule.get("ports") or [])]

    [rule] = ways(f"--set={runtime}=triton")
    assert rule["to"] == [BLOCK]
    assert ways() == []


def test_a_hole_is_found(chart: Chart) -> None:
    """The walker itself: whoever lets everybody to the dashboard is seen."""
    objects = chart.objects(
        *REQUIRED, '--set-json=networkPolicy.operatorFrom=[{"ipBlock":{"cidr":"0.0.0.0/0"}}]'
    )
    [head] = heads(objects)
    assert any("ipBlock" in peer for peer in callers(objects, head.labels, DASHBOARD))
    unguarded = [each for each in objects if each["kind"] != "NetworkPolicy"]
    assert list(callers(unguarded, head.labels, DASHBOARD)) == [ANYBODY]
    everything = {
        "kind": "NetworkPolicy",
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
    }
    assert ANYBODY in list(callers([*objects, everything], head.labels, DASHBOARD))
    wide = {"ports": [{"port": 8000, "endPort": 9000}]}
    everything["spec"]["ingress"] = [wide]
    assert ANYBODY in list(callers([*objects, everything], head.labels, DASHBOARD))
