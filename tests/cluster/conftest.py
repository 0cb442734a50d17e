"""A namespace of its own on the cluster that KUBECONFIG names: kind, or any with KubeRay and the image.

    make test-cluster                                    # MARQUEE_IMAGE=marquee/marquee:<version>

An install takes minutes, so the tests share one release where they can: first one that makes its own bundle,
then one that lives, as two Rays are too many for a small machine. Namespaces go when the tests end, also when
they fail.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.bundles import put_bundle
from tests.cluster.client import Client, start
from tests.cluster.kube import KubectlError, items, kubectl
from tests.cluster.lives import settled
from tests.cluster.release import Release, image

collect_ignore_glob = [] if "KUBECONFIG" in os.environ else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who shares a release goes together; `test_uninstall` stays last."""
    items.sort(key=lambda item: "bootstrapped" not in getattr(item, "fixturenames", ()))


@contextmanager
def temporary_namespace(purpose: str) -> Iterator[str]:
    """A namespace in which only restricted pods run, with Redis' password in it."""
    name = f"marquee-{purpose}-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    try:
        kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        password = f"--from-literal=redis-password={secrets.token_hex(16)}"
        kubectl("--namespace", name, "create", "secret", "generic", "marquee-redis", password)
        yield name
    finally:
        with suppress(KubectlError):
            let_go(name)
        kubectl("delete", "namespace", name, "--wait=false")


def let_go(namespace: str) -> None:
    """Ends what Ray has there without its clean-up, which could not begin in a namespace that is going:
    KubeRay would try again ever more rarely, and the namespace stay for up to a quarter of an hour."""
    kinds = "rayservices,rayclusters"
    kubectl("--namespace", namespace, "delete", kinds, "--all", "--wait=false")
    for found in items(kinds, namespace):
        which = f"{found['kind']}/{found['metadata']['name']}".lower()
        none = ["--type=merge", '--patch={"metadata":{"finalizers":null}}']
        with suppress(KubectlError):  # it went meanwhile
            kubectl("--namespace", namespace, "patch", which, *none)


def put_tables(namespace: str, claim: str, image: str, users: int, items: int, interactions: int) -> None:
    """A claim with a synthetic world's tables as CSV, such as a team would bring: written by a pod."""
    script = f"""
import pyarrow.csv as csv
from training.data.synthetic import synthesize
tables = synthesize({users}, {items}, {interactions}, seed=1)
genres = tables.items["genres"].to_pylist()
joined = [["|".join(names) for names in genres]]
items = tables.items.drop_columns(["genres"]).append_column("genres[]", joined)
for name, table in (("interactions", tables.interactions), ("items", items), ("users", tables.users)):
    csv.write_csv(table, f"/tables/{{name}}.csv")
"""
    volume = {"name": "tables", "persistentVolumeClaim": {"claimName": claim}}
    container = {
        "name": "put",
        "image": image,
        "command": ["python", "-c", script],
        "volumeMounts": [{"name": "tables", "mountPath": "/tables"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod_security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [volume],
        "securityContext": pod_security,
    }
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": storage},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"put-{claim}"}, "spec": spec},
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=document)
    kubectl(
        "--namespace",
        namespace,
        "wait",
        f"pod/put-{claim}",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=240s",
        timeout_s=250,
    )


@dataclass(frozen=True)
class Living:
    """A release in service that the tests of a session share, and a pod that asks it."""

    release: Release
    client: Client


SMALL = (
    "config.bundle=/bundles/first",
    "bundleStore.pvc.accessModes={ReadWriteMany}",
    "workers.cpu.minReplicas=2",
    "workers.cpu.maxReplicas=2",
    "workers.cpu.resources.requests.cpu=500m",
    "workers.cpu.resources.requests.memory=1500Mi",
    "workers.cpu.resources.limits.memory=1500Mi",
    "workers.cpu.podDisruptionBudget.enabled=true",
    "head.resources.requests.cpu=300m",
    "head.resources.requests.memory=1500Mi",
    "head.resources.limits.memory=1500Mi",
    "replicas.ingress.num_cpus=0.8",
    "replicas.ingress.autoscaling_config.min_replicas=2",
    "replicas.ingress.autoscaling_config.max_replicas=2",
    "replicas.groups.rerank.stages={diversity}",
    "replicas.groups.rerank.num_cpus=0.2",  # beside an ingress on a worker's core
    "replicas.groups.rerank.autoscaling_config.min_replicas=1",
    "replicas.groups.rerank.autoscaling_config.max_replicas=1",
    "ray.autoscaler.idleTimeoutSeconds=60",
    "monitoring.enabled=false",
    "monitoring.dashboards.enabled=false",
)
"""Settings that bear the loss of a worker, have a stage in a group, and fit three small nodes twice."""


@pytest.fixture(scope="session")
def shared() -> Iterator[ExitStack]:
    """The release that tests share at present; who makes another closes this one first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def living(bundle_dir: Path, shared: ExitStack) -> Iterator[Living]:
    """Ready, from a bundle on a claim. Who changes it changes it back; test_uninstall.py ends it."""
    shared.close()
    repository, tag = image()
    with temporary_namespace("living") as namespace:
        put_bundle(namespace, "bundles", f"{repository}:{tag}", bundle_dir)
        release = Release(namespace)
        release.install(*SMALL, "bundleStore.pvc.existingClaim=bundles", wait=False)
        start(namespace, f"{repository}:{tag}")
        settled(release, 2)
        yield Living(release, Client(namespace, f"http://{release.name}:8000"))


@pytest.fixture(scope="session")
def bootstrapped(shared: ExitStack) -> Release:
    """Installed on nothing but tables on a claim; nobody waits for it here."""
    from tests.cluster.bootstrapped import SETTINGS

    repository, tag = image()
    namespace = shared.enter_context(temporary_namespace("first"))
    put_tables(namespace, "tables", f"{repository}:{tag}", users=200, items=150, interactions=6_000)
    release = Release(namespace)
    release.install(*SETTINGS, wait=False)
    return release


def marquee(*arguments: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
    """The command line of this checkout, against the cluster."""
    command = [sys.executable, "-m", "marquee", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
