"""The chart against a real API server (tests/envtest.py), where KUBEBUILDER_ASSETS names one; else skipped.

An older server than the chart is for may lack API groups. What needs those is left out and told.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

from serving.config import Traffic, TrafficEntry
from serving.traffic.desired import KEY, Desired
from tests.chart.pods import pods
from tests.chart.rendering import CHART, REQUIRED, Chart, Object, name
from tests.chart.schemas import crd_folder
from tests.chart.test_templates import MATERIALIZE, MONITORING, RETRAIN, ROWS
from tests.envtest import Server, api_server

LEAST = (1, 30)
"""The oldest Kubernetes that the chart is for."""
API_VERSIONS = [
    "v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1",
    "ray.io/v1", "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1",
]  # fmt: skip
NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "marquee", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}
TRAFFIC = Traffic(
    traffic=(
        TrafficEntry(bundle="s3://models/bundles/first", weight=95),
        TrafficEntry(bundle="s3://models/next", weight=5),
    )
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent")
    if not all((assets / binary).exists() for binary in ("etcd", "kube-apiserver")):
        pytest.skip("no API server here: KUBEBUILDER_ASSETS may name a folder with etcd and kube-apiserver")
    with api_server(assets, tmp_path_factory.mktemp("envtest")) as running:
        if folder := crd_folder():
            for crd, why in running.apply_crds(folder).items():
                print(f"left out, as this server refuses it: {crd}: {why}")
        running.http.post("/api/v1/namespaces", json=NAMESPACE).raise_for_status()
        yield running


def collection(server: Server, found: Object) -> str | None:
    return server.collection(found["apiVersion"], found["kind"], "marquee")


def unknown(server: Server, objects: list[Object]) -> list[str]:
    """The objects of kinds that the server does not have."""
    return [name(each) for each in objects if collection(server, each) is None]


def refused(server: Server, found: Object) -> str | None:
    """What the server says against an object, which is not kept."""
    asked = {"dryRun": "All"} | ({"fieldValidation": "Strict"} if server.version() >= LEAST else {})
    path = collection(server, found)
    assert path is not None
    answer = server.http.post(path, params=asked, json=found)
    return None if answer.status_code == httpx.codes.CREATED else f"{name(found)}: {answer.json()['message']}"


@pytest.mark.parametrize("api_version", API_VERSIONS)
def test_the_server_takes_every_object(server: Server, objects: list[Object], api_version: str) -> None:
    """With its own validation, CEL rules of CRDs included, and unknown fields refused."""
    asked = [each for each in objects if each["apiVersion"] == api_version]
    left_out = unknown(server, asked)
    known = [each for each in asked if name(each) not in left_out]
    assert [said for each in known if (said := refused(server, each))] == []
    if left_out:
        pytest.skip(
            f"this server has none of this kind: {', '.join(left_out)}; it took the other {len(known)}"
        )


def test_no_api_version_is_forgotten_above(objects: list[Object]) -> None:
    assert {each["apiVersion"] for each in objects} <= set(API_VERSIONS)


def test_its_admission_takes_every_pod(server: Server, objects: list[Object]) -> None:
    """In a namespace that enforces the restricted profile. There are no priority classes."""
    if server.version() < LEAST:
        pytest.skip(f"this server is older than {LEAST} and knows less of pods")
    for each in objects:
        for pod in pods(each):
            spec = {key: value for key, value in pod.spec.items() if key != "priorityClassName"}
            assert refused(server, alone(spec, pod.labels)) is None, pod.where
    rooted: dict[str, Any] = {
        "containers": [{"name": "a", "image": "b:1", "securityContext": {"runAsUser": 0}}]
    }
    said = refused(server, alone(rooted, {}))
    assert said is not None
    assert "restricted" in said


def alone(spec: dict[str, Any], labels: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "labels": labels}, "spec": spec}


@pytest.fixture
def installable(server: Server, chart: Chart, tmp_path: Path) -> tuple[Path, list[str]]:
    """The chart, for servers of every age, and flags that leave out what this one has no API for."""
    copy = shutil.copytree(CHART, tmp_path / "marquee")
    if server.version() < LEAST:
        described = copy / "Chart.yaml"
        described.write_text(re.sub(r"^kubeVersion:.*\n", "", described.read_text(), flags=re.M))
        print(f"this server is older than {LEAST}: the chart's kubeVersion is not looked at")
    flags = list(REQUIRED)
    for row in ROWS:
        made = chart.by_template(*REQUIRED).get(row.template, [])
        if missing := unknown(server, made):
            if not row.toggle:
                pytest.skip(f"this server has no {missing}, without which there is no release")
            print(f"left out: {row.template}, which needs {missing}")
            flags += row.toggle
    for feature in (MATERIALIZE, RETRAIN, MONITORING):
        made = [each for rows in chart.by_template(*flags, *feature).values() for each in rows]
        if missing := unknown(server, made):
            print(f"left out: {feature}, which needs {missing}")
        else:
            flags += feature
    return copy, flags


@pytest.fixture
def release(
    server: Server, chart: Chart, installable: tuple[Path, list[str]], request: pytest.FixtureRequest
) -> Iterator["Release"]:
    """An installed release, in a namespace of its own."""
    namespace = re.sub(r"[^a-z]+", "-", request.node.name)
    found = Release(server, chart, *installable, namespace=namespace)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    server.http.post("/api/v1/namespaces", json=made).raise_for_status()
    found.helm("install")
    yield found
    found.helm("uninstall")


class Release:
    def __init__(self, server: Server, chart: Chart, folder: Path, flags: list[str], namespace: str) -> None:
        self._server, self._chart, self._folder, self._flags = server, chart, folder, flags
        self._namespace = namespace
        self._service = f"/apis/ray.io/v1/namespaces/{namespace}/rayservices/marquee"

    def helm(self, verb: str, *more: str) -> str:
        """Raises AssertionError: it failed."""
        done = self.tried(verb, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(self, verb: str, *more: str) -> CompletedProcess[str]:
        chart = [str(self._folder), *self._flags] if verb in {"install", "upgrade"} else []
        where = [f"--namespace={self._namespace}", f"--kubeconfig={self._server.kubeconfig}"]
        revision = [each for each in more if not each.startswith("-")]
        options = [each for each in more if each.startswith("-")]
        return self._chart.call(verb, "marquee", *revision, *chart, *where, *options)

    def service(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._server.http.get(self._service).raise_for_status().json()["spec"]
        return spec

    def put_traffic(self) -> None:
        """As `marquee rollout` does, under its own name."""
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "marquee-traffic"}}
        self._server.http.post(
            f"/api/v1/namespaces/{self._namespace}/configmaps", params={"fieldManager": "marquee"},
            json=made | {"data": {KEY: Desired(TRAFFIC, 7).to_json()}},
        ).raise_for_status()  # fmt: skip

    def traffic(self) -> Desired:
        found = self._server.http.get(f"/api/v1/namespaces/{self._namespace}/configmaps/marquee-traffic")
        return Desired.parse(found.raise_for_status().json()["data"][KEY])

    def priority(self) -> str | None:
        found = self.service()["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
        return found.get("priorityClassName")


def test_install_upgrade_and_rollback(release: Release) -> None:
    assert release.priority() is None
    release.helm("upgrade", "--set=head.priorityClassName=high")
    assert release.priority() == "high"
    release.helm("rollback", "1")
    assert release.priority() is None
    assert [each["status"] for each in json.loads(release.helm("history", "--output=json"))] == [
        "superseded", "superseded", "deployed",
    ]  # fmt: skip


def test_no_verb_of_helm_touches_the_traffic_and_a_rollout_is_in_the_way_of_none(release: Release) -> None:
    release.put_traffic()
    release.helm("upgrade", "--set=head.priorityClassName=high", "--set=config.limits.in_flight=77")
    assert release.priority() == "high"
    assert "in_flight: 77" in release.service()["serveConfigV2"]
    release.helm("rollback", "1")
    assert release.priority() is None
    assert release.traffic() == Desired(TRAFFIC, 7)
