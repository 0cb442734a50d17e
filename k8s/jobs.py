"""Training on a cluster: RayJobs, made from the chart's template or from a few sizes.

Does not belong here: what a training does; the job runs `marquee train`.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import yaml

from k8s.client import CONFIG_MAPS, RAY_JOBS, Cluster, Object
from k8s.errors import ControlError, NotFound
from k8s.job_state import INSTANCE, look, submitters

COMPONENT = {"app.kubernetes.io/component": "train", "app.kubernetes.io/managed-by": "marquee"}

KEY = "rayjob.yaml"
"""Of the ConfigMap `<release>-train-template`."""

GPU = "nvidia.com/gpu"

SILENCE_S = 600.0
"""s without a line after which following a log ends: an epoch of the largest catalogue says nothing for that
long."""

KEEP_S = 86_400
"""s a finished job stays, so that its log can be read the next day."""

HOME = "/var/lib/marquee"
"""Where the pods of a plain job mount the volume that they share."""

DEADLINE_S = 43_200
"""s after which a job is given up: half a day of GPUs is enough for a mistake."""


class JobError(ControlError):
    """A job that cannot be made or reached."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What may differ from one training to the next; None leaves the template's.

    Attributes:
        workers: pods of the job's own worker group.
        gpus: of each worker; on each a process trains. cpus, memory: of each worker, Kubernetes quantities.
        entrypoint: the command.
    """

    image: str | None = None
    workers: int | None = None
    gpus: int | None = None
    cpus: str | None = None
    memory: str | None = None
    entrypoint: str | None = None


def template(cluster: Cluster, namespace: str, release: str, image: str | None, claim: str | None) -> Object:
    """The RayJob in the ConfigMap `<release>-train-template`; where there is none, a plain one of that image
    and claim.

    Raises:
        JobError: neither.
    """
    name = f"{release}-train-template"
    try:
        found = cluster.get(CONFIG_MAPS, namespace, name)
    except NotFound:
        if image is None or claim is None:
            text = f"no ConfigMap {name} in {namespace}: name the --release, or give --image and --claim"
            raise JobError(text) from None
        return plain(image, claim)
    return parse(found.get("data", {}).get(KEY, ""))


def submit(cluster: Cluster, namespace: str, release: str, job: Object, sizes: Sizes) -> str:
    """Creates the RayJob, with those sizes and under a name of its own.

    Returns:
        The name.
    """
    name = f"{release}-train-{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(2)}"
    given = job.get("metadata", {})
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": COMPONENT | {INSTANCE: release} | given.get("labels", {}),
        "annotations": given.get("annotations", {}),
    }
    cluster.create(RAY_JOBS, namespace, sized(job | {"metadata": metadata}, sizes))
    return name


def parse(text: str) -> Object:
    """Raises JobError where the text is no RayJob with one worker group."""
    try:
        job = yaml.safe_load(text)
        groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    except (yaml.YAMLError, KeyError, TypeError):
        job, groups = {}, []
    if job.get("kind") != RAY_JOBS.kind or len(groups) != 1:
        raise JobError("the template must be one RayJob with one worker group")
    return dict(job)


def sized(job: Object, sizes: Sizes) -> Object:
    """The job with those sizes, in a copy."""
    job = copy.deepcopy(job)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    if sizes.entrypoint is not None:
        spec["entrypoint"] = sizes.entrypoint
    if sizes.workers is not None:
        group |= {"replicas": sizes.workers, "minReplicas": sizes.workers, "maxReplicas": sizes.workers}
    if sizes.image is not None:
        for template in (cluster["headGroupSpec"]["template"], group["template"]):
            template["spec"]["containers"][0]["image"] = sizes.image
    wanted = {GPU: sizes.gpus, "cpu": sizes.cpus, "memory": sizes.memory}
    given = {name: str(value) for name, value in wanted.items() if value is not None}
    if given:
        resources = group["template"]["spec"]["containers"][0].setdefault("resources", {})
        for kind in ("requests", "limits"):
            resources[kind] = resources.get(kind, {}) | given
    if sizes.workers is not None or sizes.gpus is not None:
        _tell(cluster, group)
    return job


def _tell(cluster: Object, group: Object) -> None:
    """Tells `marquee train`, which runs on the head, what the group makes: a process for each GPU; without
    GPUs for each pod."""
    asked = group["template"]["spec"]["containers"][0].get("resources", {})
    gpus = int(asked.get("limits", {}).get(GPU, 0))
    told = {
        "MARQUEE_TRAIN_WORKERS": str(group.get("replicas", 1) * max(gpus, 1)),
        "MARQUEE_TRAIN_GPU": str(gpus > 0).lower(),
    }
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    others = [each for each in head.get("env", []) if each["name"] not in told]
    head["env"] = [*others, *({"name": name, "value": value} for name, value in told.items())]


def plain(image: str, claim: str) -> Object:
    """A RayJob with a head and one group of workers, for a cluster without the chart.

    Args:
        claim: a PersistentVolumeClaim that many nodes write: head and workers share data and checkpoints, and
            the bundle is found there.
    """
    job = {
        "apiVersion": RAY_JOBS.api_version,
        "kind": RAY_JOBS.kind,
        "spec": {
            "entrypoint": "marquee train",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEEP_S,
            "activeDeadlineSeconds": DEADLINE_S,
            "submissionMode": "K8sJobMode",
            "rayClusterSpec": {
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": _pod("ray-head", image, claim, {"cpu": "1", "memory": "4Gi"}),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "train",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 1,
                        "rayStartParams": {},
                        "template": _pod("ray-worker", image, claim, {"cpu": "4", "memory": "16Gi"}),
                    }
                ],
            },
        },
    }
    return sized(job, Sizes(workers=1))


def _pod(name: str, image: str, claim: str, resources: dict[str, str]) -> Object:
    """A pod that the restricted pod-security profile admits."""
    return {
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "env": [{"name": "MARQUEE_HOME", "value": HOME}],
                    "resources": {"requests": dict(resources), "limits": dict(resources)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": "/tmp"},
                        {"name": "home", "mountPath": HOME},
                    ],
                }
            ],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "home", "persistentVolumeClaim": {"claimName": claim}},
            ],
        }
    }


def logs(cluster: Cluster, namespace: str, name: str, *, follow: bool, tail: int | None) -> Iterator[str]:
    """Lines of the pod that submitted the job (submissionMode K8sJobMode); KubeRay names its Job like the
    RayJob.

    Raises:
        JobError: there is no such pod yet, or no more.
    """
    pods = submitters(cluster, namespace, name)
    if not pods:
        job = cluster.get(RAY_JOBS, namespace, name)
        if job.get("spec", {}).get("submissionMode", "K8sJobMode") != "K8sJobMode":
            head = f"{job.get('status', {}).get('rayClusterName', '<cluster>')}-head-svc"
            text = f"`kubectl -n {namespace} port-forward svc/{head} 8265` and Ray's dashboard show its log"
            raise JobError(f"{name} was submitted without a pod of its own: {text}")
        state = look(cluster, namespace, job)
        why = f", {state.message}" if state.message else ""
        raise JobError(f"{name} has no log yet (it is {state.deployment or 'new'}{why}): try again later")
    newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return cluster.log(namespace, newest["metadata"]["name"], follow=follow, tail=tail, seconds=SILENCE_S)


def cancel(cluster: Cluster, namespace: str, name: str, *, delete: bool) -> None:
    """Stops a job and frees its pods; the RayJob stays, suspended, unless it is to be deleted."""
    if delete:
        cluster.delete(RAY_JOBS, namespace, name)
    else:
        cluster.patch(RAY_JOBS, namespace, name, {"spec": {"suspend": True}})
