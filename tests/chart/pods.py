"""Finds every pod that an object may make, wherever in it, and says where it breaks the restricted profile.

https://kubernetes.io/docs/concepts/security/pod-security-standards (restricted, which includes baseline)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chart.rendering import Object, name

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
"""The kinds of volume that restricted pods may have."""
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}


@dataclass(frozen=True)
class Pod:
    """Attributes:
    where: object and path, for a message.
    spec: a PodSpec.
    labels: of the template that it lies in.
    """

    where: str
    spec: dict[str, Any]
    labels: dict[str, str]

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            for each in self.spec.get(kind) or []:
                yield f"{self.where}.{kind}[{each.get('name')}]", each


def pods(found: Object) -> list[Pod]:
    """Every pod template in an object, at any depth: whatever has a list of `containers` is a PodSpec."""
    return list(_walk(found, name(found), {}))


def is_head(pod: Pod) -> bool:
    """Ray's head in a RayService."""
    return pod.where.startswith("RayService/") and ".headGroupSpec." in pod.where


def _walk(node: Any, where: str, labels: dict[str, str]) -> Iterator[Pod]:
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _walk(each, f"{where}[{index}]", {})
    elif isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield Pod(where, node, labels)
        metadata = node.get("metadata")
        inner = metadata.get("labels") or {} if isinstance(metadata, dict) else {}
        for key, each in node.items():
            yield from _walk(each, f"{where}.{key}", inner if key == "spec" else {})


def violations(found: Object) -> list[str]:
    """Where the pods of an object, and what KubeRay adds to them, break the restricted profile."""
    return [fault for pod in pods(found) for fault in _of_pod(pod)] + list(_of_ray(found, name(found)))


def _of_pod(pod: Pod) -> Iterator[str]:
    context = pod.spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"{pod.where}: {field}"
    for volume in pod.spec.get("volumes") or []:
        if kinds := volume.keys() - {"name"} - VOLUMES:
            yield f"{pod.where}: volume {volume['name']} is a {kinds.pop()}"
    for sysctl in context.get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"{pod.where}: sysctl {sysctl['name']}"
    yield from (f"{pod.where}: {fault}" for fault in _of_context(context))
    for where, container in pod.containers():
        yield from (f"{where}: {fault}" for fault in _of_container(container, context))


def _of_container(container: dict[str, Any], inherited: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    both = inherited | own
    yield from _of_context(own)
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if (both.get("seccompProfile") or {}).get("type") not in SECCOMP:
        yield "no seccompProfile"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "does not drop ALL capabilities"
    if added := set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"adds {added}"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPort"
    if any("host" in action for action in _actions(container)):
        yield "a probe or hook names a host"


def _of_context(context: dict[str, Any]) -> Iterator[str]:
    """What is wrong in a securityContext of a pod or a container alike."""
    if context.get("runAsUser") == 0:
        yield "runs as root"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in SECCOMP:
        yield "seccompProfile is unconfined"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield "appArmorProfile is unconfined"
    if {"user", "role"} & (context.get("seLinuxOptions") or {}).keys():
        yield "seLinuxOptions names a user or a role"


def _actions(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The httpGet and tcpSocket of probes and hooks."""
    hooks = [container.get(probe) or {} for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks += [hook or {} for hook in (container.get("lifecycle") or {}).values()]
    for hook in hooks:
        yield from (hook[kind] for kind in ("httpGet", "tcpSocket") if kind in hook)


def _of_ray(node: Any, where: str) -> Iterator[str]:
    """Containers that are KubeRay's: the autoscaler beside the head, and the pod that submits a RayJob."""
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _of_ray(each, f"{where}[{index}]")
    elif isinstance(node, dict):
        if node.get("enableInTreeAutoscaling"):
            options = node.get("autoscalerOptions") or {}
            head = node["headGroupSpec"]["template"]["spec"].get("securityContext") or {}
            yield from (f"{where}.autoscalerOptions: {fault}" for fault in _of_container(options, head))
        by_pod = "rayClusterSpec" in node and node.get("submissionMode", "K8sJobMode") == "K8sJobMode"
        if by_pod and "submitterPodTemplate" not in node:
            yield f"{where}: KubeRay's own submitter pod has no securityContext"
        for key, each in node.items():
            yield from _of_ray(each, f"{where}.{key}")
