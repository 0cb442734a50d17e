"""A bundle on a claim, for a release that is not to make its own.

Does not belong here: the chart's own way from tables to a bundle.
"""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path

from tests.cluster.kube import Object, apply, kubectl

USERS = [f"u{number}" for number in range(200)]
"""Whom a load asks for; the service need not know them."""

STARTED_S = 300
"""Seconds for the pod that unpacks it: its image may have to be pulled."""

UNPACK = """
import base64, io, sys, tarfile
data = base64.b64decode(sys.stdin.read())
tarfile.open(fileobj=io.BytesIO(data)).extractall("/bundles")
"""


def put_bundle(namespace: str, claim: str, image: str, bundle: Path, folder: str = "first") -> None:
    """The claim, made where there is none, with the bundle in that folder of it."""
    name = f"put-{claim}"
    container: Object = {
        "name": "put",
        "image": image,
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "bundles", "mountPath": "/bundles"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: Object = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "bundles", "persistentVolumeClaim": {"claimName": claim}}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    storage = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    apply(
        namespace,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": storage},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
    )
    ready = ["--for=condition=Ready", f"--timeout={STARTED_S}s"]
    kubectl("--namespace", namespace, "wait", f"pod/{name}", *ready, timeout_s=STARTED_S + 30)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(bundle, folder)
    unpack = ["exec", "--stdin", name, "--", "python", "-c", UNPACK]
    kubectl("--namespace", namespace, *unpack, stdin=base64.b64encode(packed.getvalue()).decode())
    kubectl("--namespace", namespace, "delete", "pod", name)
