"""A network on a Triton server of the cluster: it computes for the service, which outlives it.

MARQUEE_TRITON_IMAGE names the server's image: NVIDIA's, or the one that `triton/Dockerfile` makes of a wheel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL, Living
from tests.cluster.kube import Object, apply, items, kubectl, until
from tests.cluster.lives import SETTLED_S, whole
from tests.cluster.reach import reached
from tests.cluster.release import image
from training.bundle import read_bundle

NAME = "triton"
PORT = 8001
CLAIM = "bundleStore.pvc.existingClaim=bundles"
ON_TRITON = (
    "replicas.ingress.runtime=triton",
    f"config.runtimes.triton.address={NAME}:{PORT}",
    f"networkPolicy.tritonTo[0].podSelector.matchLabels.app={NAME}",
)
RATE = 10.0
"""Requests a second."""
STARTED_S = 300.0
"""Seconds for the server to be ready: its image may have to be pulled."""
ANSWERED_S = 60.0
"""Seconds for an answer that lost nothing: on a busy machine a stage may exceed its budget a few times."""
CLOSE = 1e-3
"""How far apart the scores of two runtimes may be, as docs/runtimes.md says."""

INFERENCES = f"""
import json
from tritonclient.grpc import InferenceServerClient
statistics = InferenceServerClient("{NAME}:{PORT}").get_inference_statistics(as_json=True)
print(sum(int(each.get("inference_count", 0)) for each in statistics["model_stats"]))
"""


def container(name: str, of: str, command: list[str], *mounts: Object) -> Object:
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"name": name, "image": of, "command": command, "securityContext": closed, "volumeMounts": mounts}


def deployment(triton: str) -> Object:
    """The server, over what `marquee bundle export-triton` writes of the bundle in service."""
    repository, tag = image()
    models = {"name": "models", "mountPath": "/models"}
    bundles = {"name": "bundles", "mountPath": "/bundles", "readOnly": True}
    export = ["marquee", "bundle", "export-triton", "/models", "--bundle", "/bundles/first"]
    serve = ["tritonserver", "--model-repository=/models", f"--grpc-port={PORT}", "--http-port=8000"]
    server = container("server", triton, [*serve, "--allow-metrics=false"], models)
    server["readinessProbe"] = {"httpGet": {"path": "/v2/health/ready", "port": 8000}, "periodSeconds": 2}
    server["resources"] = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    security = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
    spec = {
        "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 5,
        "initContainers": [container("export", f"{repository}:{tag}", export, models, bundles)],
        "containers": [server],
        "volumes": [
            {"name": "models", "emptyDir": {}},
            {"name": "bundles", "persistentVolumeClaim": {"claimName": "bundles"}},
        ],
    }
    labels = {"app": NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@pytest.fixture
def triton(living: Living) -> Iterator[None]:
    """A server in the namespace of the release, ready."""
    if not (server := os.environ.get("MARQUEE_TRITON_IMAGE")):
        pytest.skip("MARQUEE_TRITON_IMAGE names no image of a Triton server")
    namespace = living.release.namespace
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"name": "grpc", "port": PORT}]},
    }
    apply(namespace, deployment(server), service)
    try:
        rollout = ["rollout", "status", f"deployment/{NAME}", f"--timeout={STARTED_S:.0f}s"]
        kubectl("--namespace", namespace, *rollout, timeout_s=STARTED_S + 30)
        yield
    finally:
        kubectl("--namespace", namespace, "delete", f"deployment/{NAME}", f"service/{NAME}", "--wait=false")


def inferences(living: Living) -> int:
    """How many rows the server has computed since it started."""
    asked = ["exec", "client", "--", "python", "-c", INFERENCES]
    return int(kubectl("--namespace", living.release.namespace, *asked))


def reaches(living: Living) -> bool:
    """Whether the policies let a worker to the server."""
    [worker, *_] = living.release.pods("worker-cpu")
    place = (NAME, PORT)
    return reached(living.release.namespace, [place], worker["metadata"]["name"], "ray") == [place]


def scaled(living: Living, replicas: int) -> None:
    kubectl("--namespace", living.release.namespace, "scale", f"deployment/{NAME}", f"--replicas={replicas}")


def fallen_back(living: Living) -> float:
    """Calls that failed on Triton and were computed by the ingresses instead, as the workers count them."""
    found = 0.0
    for pod in living.release.pods("worker-cpu"):
        name = pod["metadata"]["name"]
        ask = "import httpx; print(httpx.get('http://localhost:9464/metrics').text)"
        command = ["exec", name, "-c", "ray", "--", "python", "-c", ask]
        for line in kubectl("--namespace", living.release.namespace, *command).splitlines():
            if line.startswith("marquee_degraded_total") and 'stage="triton:' in line:
                found += float(line.split()[-1])
    return found


def scores(living: Living, session: Object) -> dict[str, float]:
    """The ten best items, in their order, and the score of each, of an answer that lost nothing."""

    def look() -> Object:
        status, answer = living.client.ask("/v1/recommendations", {**session, "count": 10})
        assert status == 200, answer
        return {} if answer["degraded"] else {item["id"]: item["score"] for item in answer["items"]}

    return until("an answer that lost nothing", look, ANSWERED_S)


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        assert one == pytest.approx(other, abs=CLOSE)


def test_a_network_is_computed_on_triton_and_without_it(
    living: Living, triton: None, bundle_dir: Path
) -> None:
    """By sessions, whose vector the two-tower computes anew for each request."""
    release = living.release
    known = read_bundle(str(bundle_dir)).catalogue.ids[:40]
    sessions = [{"session": {"events": [{"item_id": str(one)}]}} for one in known]
    compared = sessions[:5]

    def answers() -> list[dict[str, float]]:
        return [scores(living, session) for session in compared]

    def answers_of_triton() -> list[dict[str, float]]:
        before = inferences(living)
        found = answers()
        return found if inferences(living) - before >= len(compared) else []

    whole(release, 2)
    without = answers()
    assert {len(each) for each in without} == {10}
    assert inferences(living) == 0
    assert not reaches(living)
    try:
        release.upgrade(*SMALL, CLAIM, *ON_TRITON, wait=False)
        assert_same(until("answers that Triton computed", answers_of_triton, SETTLED_S), without)
        whole(release, 2)
        assert reaches(living)

        before = fallen_back(living)
        with living.client.load(sessions, RATE) as count:
            scaled(living, 0)
            until("no server", lambda: not items("pods", release.namespace, f"app={NAME}"), STARTED_S)
            until("calls that failed", lambda: fallen_back(living) > before, STARTED_S)
            assert_same(answers(), without)
            whole(release, 2)
            scaled(living, 1)
            until("the server once more", lambda: inferences(living) > 0, STARTED_S)
        print(f"{count.failed} of {count.sent} failed: {count.failures}; {count.degraded} degraded")
        assert (count.failures, set(count.tiers)) == ({}, {"session"})
    finally:
        release.upgrade(*SMALL, CLAIM, wait=False)
        whole(release, 2)
