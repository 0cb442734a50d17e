"""What runs in a namespace."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from k8s.client import CONFIG_MAPS, PODS, RAY_CLUSTERS, RAY_SERVICES, Object
from k8s.status import Gpus, count_gpus, phase, quantity, read_status, role
from serving.config import Traffic
from tests.k8s.apiserver import Served, page, ray_service, serving, wanted, worker
from tests.k8s.worlds import NEW, OLD


def pod(
    *gpus: int, labels: dict[str, str] | None = None, phase: str = "Running", ready: bool = True, **spec: Any
) -> Object:
    containers = [{"resources": {"limits": {"nvidia.com/gpu": str(count)}}} for count in gpus] or [{}]
    return {
        "metadata": {"labels": labels or {}},
        "spec": {"nodeName": "n", "containers": containers} | spec,
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def node(gpus: str) -> Object:
    return {"metadata": {}, "status": {"allocatable": {"nvidia.com/gpu": gpus, "cpu": "3920m"}}}


def of_group(group: str) -> dict[str, str]:
    return {"ray.io/cluster": "marquee-abc", "ray.io/group": group}


def test_everything_is_put_together(kubernetes: Served) -> None:
    service = ray_service()
    kubernetes.put(CONFIG_MAPS, "marquee-traffic", wanted({"bundle": OLD, "weight": 100}))
    service["status"]["serviceStatus"] = "Running"
    service["status"]["activeServiceStatus"]["applicationStatuses"] = {
        "marquee": {
            "status": "RUNNING",
            "serveDeploymentStatuses": {"Ranker": {"status": "UNHEALTHY", "message": "no GPU"}},
        }
    }
    kubernetes.put(RAY_SERVICES, "marquee", service)
    groups = [{"groupName": "gpu", "replicas": 3, "minReplicas": 1, "maxReplicas": 4}]
    kubernetes.put(RAY_CLUSTERS, "marquee-abc", {"spec": {"workerGroupSpecs": groups}})
    kubernetes.put(PODS, "head", pod(labels={"ray.io/node-type": "head", "ray.io/group": "headgroup"}))
    kubernetes.put(PODS, "w1", pod(1, labels=of_group("gpu")))
    kubernetes.put(PODS, "w2", pod(1, labels=of_group("gpu"), ready=False))
    kubernetes.put(PODS, "w3", pod(1, labels=of_group("gpu"), phase="Pending", ready=False, nodeName=None))
    kubernetes.put(PODS, "elsewhere", pod(2), namespace="other")
    kubernetes.api.objects["v1/nodes", None, "n"] = {"metadata": {"name": "n"}} | node("8")
    found = read_status(kubernetes.cluster(), "prod")
    assert found.pods == {
        ("gpu", "NotReady"): 1,
        ("gpu", "Pending"): 1,
        ("gpu", "Running"): 1,
        ("headgroup", "Running"): 1,
    }
    assert found.gpus == Gpus(allocatable=8, requested=4)
    [seen] = found.services
    assert (seen.status, seen.cluster, seen.traffic) == ("Running", "marquee-abc", Traffic.of(OLD))
    [application] = seen.applications
    [deployment] = application.deployments
    assert (application.status, deployment.status, deployment.message) == ("RUNNING", "UNHEALTHY", "no GPU")
    [group] = seen.groups
    assert (group.ready, group.desired, group.least, group.most) == (1, 3, 1, 4)


def test_an_empty_namespace_and_no_rights_on_nodes(kubernetes: Served) -> None:
    kubernetes.api["get /api/v1/nodes"] << 403 << {"kind": "Status", "message": "nodes is forbidden"}
    found = read_status(kubernetes.cluster(), "prod")
    assert (found.pods, found.gpus, found.services) == ({}, None, ())


def test_a_service_without_traffic_says_why(kubernetes: Served) -> None:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service())
    [seen] = read_status(kubernetes.cluster(), "prod").services
    assert (seen.traffic, seen.problem) == (None, "no traffic object yet")
    kubernetes.put(PODS, "marquee-worker-0", worker())
    kubernetes.api.pages["marquee-worker-0"] = page("1", [], {}, "no bundle yet: waiting for /bundles/first")
    [seen] = read_status(kubernetes.cluster(), "prod").services
    assert seen.problem == "no bundle yet: waiting for /bundles/first"
    kubernetes.put(CONFIG_MAPS, "marquee-traffic", {"data": {"traffic.json": "{"}})
    [seen] = read_status(kubernetes.cluster(), "prod").services
    assert seen.traffic is None
    assert "marquee-traffic holds no traffic" in seen.problem


def test_who_is_behind_and_why_is_told(kubernetes: Served) -> None:
    serving(kubernetes, {"bundle": OLD, "weight": 80}, {"bundle": NEW, "weight": 20}, pods=2)
    kubernetes.api.pages["marquee-worker-1"] = page(
        "7", [{"bundle": OLD, "weight": 100}], {NEW: "ranker.safetensors is cut off"}
    )
    [seen] = read_status(kubernetes.cluster(), "prod").services
    assert seen.behind == {"marquee-worker-1/7": f"refused {NEW}: ranker.safetensors is cut off"}


def test_who_is_on_its_way_out_is_not_running() -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert phase(leaving) == "Terminating"
    assert role(pod()) == "other"
    assert role(pod(labels={"app.kubernetes.io/component": "redis"})) == "redis"


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=3), max_size=5))
def test_gpus_of_pods_that_hold_them_add_up(pods: list[list[int]]) -> None:
    running = [pod(*gpus) for gpus in pods]
    over = [pod(*gpus, phase="Succeeded") for gpus in pods]
    waiting = [pod(*gpus, phase="Pending", nodeName=None) for gpus in pods]
    assert count_gpus([node("8")], [*running, *over, *waiting]) == Gpus(8, sum(map(sum, pods)))


def test_init_containers_run_before_the_others() -> None:
    first = {"resources": {"limits": {"nvidia.com/gpu": "4"}}}
    assert count_gpus([], [pod(1, 1, initContainers=[first])]).requested == 4


def test_quantities() -> None:
    assert [quantity(text) for text in ("8", 8, "0", "1e1", "x", None)] == [8, 8, 0, 10, 0, 0]
