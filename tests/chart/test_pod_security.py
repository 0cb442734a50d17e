"""Every pod that comes of the chart is admitted by a namespace that enforces the restricted profile."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.pods import is_head, pods, violations
from tests.chart.rendering import Object

SAFE: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [
            {
                "name": "one",
                "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    },
}
CONTAINER = SAFE["spec"]["containers"][0]


def ray(template: dict[str, Any]) -> dict[str, Any]:
    return {
        "headGroupSpec": {"template": SAFE},
        "workerGroupSpecs": [{"template": SAFE}, {"template": template}],
    }


KINDS: dict[str, Callable[[dict[str, Any]], Object]] = {
    "Pod": lambda template: {"kind": "Pod", **template},
    "Deployment": lambda template: {"kind": "Deployment", "spec": {"template": template}},
    "CronJob": lambda template: {
        "kind": "CronJob",
        "spec": {"jobTemplate": {"spec": {"template": template}}},
    },
    "RayCluster": lambda template: {"kind": "RayCluster", "spec": ray(template)},
    "RayService": lambda template: {"kind": "RayService", "spec": {"rayClusterConfig": ray(template)}},
    "RayJob": lambda template: {
        "kind": "RayJob",
        "spec": {"rayClusterSpec": ray(template), "submissionMode": "HTTPMode"},
    },
    "RayJob that is submitted by a pod": lambda template: {
        "kind": "RayJob",
        "spec": {"rayClusterSpec": ray(SAFE), "submitterPodTemplate": template},
    },
    "RayCronJob": lambda template: {
        "kind": "RayCronJob",
        "spec": {"jobTemplate": {"rayClusterSpec": ray(template), "submissionMode": "HTTPMode"}},
    },
}


def seeded(path: str, value: Any) -> dict[str, Any]:
    """The safe template with one field set: `spec.` the pod's, anything else its container's."""
    template = copy.deepcopy(SAFE)
    node = template if path.startswith("spec.") else template["spec"]["containers"][0]
    *parents, last = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return template


SEEDS = {
    "spec.hostNetwork": True,
    "spec.hostPID": True,
    "spec.hostIPC": True,
    "spec.volumes": [{"name": "disk", "hostPath": {"path": "/"}}],
    "spec.securityContext.runAsUser": 0,
    "spec.securityContext.runAsNonRoot": False,
    "spec.securityContext.seccompProfile": {"type": "Unconfined"},
    "spec.securityContext.sysctls": [{"name": "kernel.msgmax", "value": "1"}],
    "spec.securityContext.seLinuxOptions": {"user": "root"},
    "spec.securityContext.windowsOptions": {"hostProcess": True},
    "spec.initContainers": [{"name": "bare"}],
    "spec.ephemeralContainers": [{"name": "bare"}],
    "securityContext.privileged": True,
    "securityContext.allowPrivilegeEscalation": True,
    "securityContext.runAsUser": 0,
    "securityContext.runAsNonRoot": False,
    "securityContext.seccompProfile": {"type": "Unconfined"},
    "securityContext.appArmorProfile": {"type": "Unconfined"},
    "securityContext.capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    "securityContext.capabilities.drop": ["NET_RAW"],
    "securityContext.procMount": "Unmasked",
    "ports": [{"containerPort": 80, "hostPort": 80}],
    "livenessProbe.httpGet": {"path": "/", "port": 80, "host": "169.254.169.254"},
    "lifecycle.postStart.httpGet": {"path": "/", "port": 80, "host": "169.254.169.254"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_safe_pod_passes(kind: str) -> None:
    made = KINDS[kind](copy.deepcopy(SAFE))
    assert pods(made)
    assert violations(made) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", SEEDS)
def test_the_walker_finds_a_seeded_violation(kind: str, path: str) -> None:
    assert violations(KINDS[kind](seeded(path, SEEDS[path])))


def test_the_walker_finds_what_kuberay_would_add() -> None:
    cluster = ray(SAFE) | {"enableInTreeAutoscaling": True}
    assert any("autoscalerOptions" in fault for fault in violations({"kind": "RayCluster", "spec": cluster}))
    cluster["autoscalerOptions"] = {"securityContext": CONTAINER["securityContext"]}
    assert violations({"kind": "RayCluster", "spec": cluster}) == []
    job = {"kind": "RayJob", "spec": {"rayClusterSpec": ray(SAFE)}}
    assert any("submitter" in fault for fault in violations(job))


def test_every_pod_is_restricted(objects: list[Object]) -> None:
    assert len([pod for each in objects for pod in pods(each)]) >= 3
    assert [fault for each in objects for fault in violations(each)] == []


def test_root_file_systems_are_read_only(objects: list[Object]) -> None:
    containers = [found for each in objects for pod in pods(each) for found in pod.containers()]
    assert [
        where
        for where, each in containers
        if each["securityContext"].get("readOnlyRootFilesystem") is not True
    ] == []


def test_memory_is_limited_and_cores_are_asked_for(objects: list[Object]) -> None:
    for each in objects:
        for pod in pods(each):
            for where, container in pod.containers():
                resources = container["resources"]
                assert {"cpu", "memory"} <= resources["requests"].keys(), where
                assert "memory" in resources["limits"], where


def test_every_pod_says_whose_rights_it_has(objects: list[Object]) -> None:
    """A service account of the chart, and the API's token only by its own word. The head's is KubeRay's and
    lives as long as the cluster: `helm uninstall` takes those of the chart before KubeRay has cleaned up."""
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    for each in objects:
        for pod in pods(each):
            if is_head(pod):
                assert "serviceAccountName" not in pod.spec, pod.where
            else:
                assert pod.spec["serviceAccountName"] in accounts, pod.where
            assert isinstance(pod.spec["automountServiceAccountToken"], bool), pod.where


def test_no_variable_is_set_twice(objects: list[Object]) -> None:
    for each in objects:
        for pod in pods(each):
            for where, container in pod.containers():
                names = [variable["name"] for variable in container.get("env") or []]
                assert sorted(names) == sorted(set(names)), where
