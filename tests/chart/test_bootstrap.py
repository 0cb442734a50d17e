"""The Job of the first bundle: what it is told, when it is another Job, and where pods of one claim run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chart.pods import pods
from tests.chart.rendering import REQUIRED, VALUES, Chart, Object

BOOTSTRAP = ("--set=redis.existingSecret=marquee-redis", "--set=bundleStore.url=s3://models/bundles")
PVC = ("--set=redis.existingSecret=marquee-redis", "--set=bundleStore.type=pvc")
RETRAIN = ("--set=retrain.enabled=true", "--set=materialize.enabled=true")
MANY = '["ReadWriteMany"]'


def job(chart: Chart, *flags: str | Path) -> Object:
    return chart.one("Job", *flags)


def container(found: Object) -> dict[str, Any]:
    [one] = found["spec"]["template"]["spec"]["containers"]
    return dict(one)


def env(found: Object) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container(found)["env"]}


def test_it_is_told_data_store_and_service(chart: Chart) -> None:
    found = job(chart, *BOOTSTRAP)
    told = env(found)
    assert (told["DATASET"], told["MARQUEE_PUBLISH"]) == ("ml-100k", "s3://models/bundles")
    assert "DATASET_PATH" not in told
    assert container(found)["command"][:4] == ["marquee", "bootstrap", "--service", "marquee"]
    assert told["MARQUEE_HOME"] in {one["mountPath"] for one in container(found)["volumeMounts"]}


def test_tables_come_from_a_url_or_a_claim(chart: Chart) -> None:
    assert env(job(chart, *BOOTSTRAP, "--set=bootstrap.datasetPath=s3://tables/films"))["DATASET_PATH"] == (
        "s3://tables/films"
    )
    found = job(chart, *BOOTSTRAP, "--set=bootstrap.datasetClaim=tables", "--set=bootstrap.datasetPath=films")
    [mount] = [one for one in container(found)["volumeMounts"] if one["name"] == "tables"]
    assert env(found)["DATASET_PATH"] == f"{mount['mountPath']}/films"
    assert mount["readOnly"]
    found = job(chart, *BOOTSTRAP, "--set=bootstrap.datasetClaim=tables")
    assert env(found)["DATASET_PATH"] == mount["mountPath"]


def test_there_is_none_where_a_bundle_is_named(chart: Chart) -> None:
    assert [one for one in chart.objects(*REQUIRED) if one["kind"] == "Job"] == []


@pytest.mark.parametrize(
    ("flag", "same"),
    [
        ("--set=workers.cpu.maxReplicas=9", True),
        ("--set=config.cache.ttl_s=9", True),
        ("--set=image.tag=v2", False),
        ("--set=bootstrap.datasetPath=s3://tables", False),
        ("--set=bootstrap.resources.limits.memory=9Gi", False),
        ("--set=runAsUser=2000", False),
        ("--set=recipe=seed: 1", False),
    ],
)
def test_it_is_another_job_where_its_template_is_another(chart: Chart, flag: str, same: bool) -> None:
    """A Job's template cannot be changed; and what does not concern it must not run it again."""
    before, after = job(chart, *BOOTSTRAP), job(chart, *BOOTSTRAP, flag)
    assert (before["metadata"]["name"] == after["metadata"]["name"]) is same
    assert (before["spec"] == after["spec"]) is same


def test_its_name_is_short_enough_for_its_pods(chart: Chart) -> None:
    name = job(chart, *BOOTSTRAP, f"--set=fullnameOverride={'x' * 40}")["metadata"]["name"]
    assert len(name) <= 63


def test_it_is_no_hook(chart: Chart) -> None:
    """Helm waits for serving pods before hooks, and they wait for what it makes."""
    assert "annotations" not in job(chart, *BOOTSTRAP)["metadata"]


@pytest.mark.parametrize("gpus", [0, 2])
def test_it_asks_for_the_gpus_that_train_and_for_no_other(chart: Chart, gpus: int) -> None:
    found = job(chart, *BOOTSTRAP, f"--set=bootstrap.gpus={gpus}", "--set=workers.gpu.enabled=true")
    spec = found["spec"]["template"]["spec"]
    assert container(found)["resources"]["limits"].get("nvidia.com/gpu", 0) == gpus
    assert (env(found)["MARQUEE_TRAIN_GPU"], env(found)["MARQUEE_TRAIN_WORKERS"]) == (
        ("true", "2") if gpus else ("false", "1")
    )
    assert container(found)["image"].endswith("-cuda") is bool(gpus)
    assert ("nodeSelector" in spec) is bool(gpus)


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_retraining_goes_to_gpu_nodes_only_for_gpus(chart: Chart, gpus: int) -> None:
    flags = (*BOOTSTRAP, "--set=retrain.enabled=true", f"--set=retrain.worker.gpus={gpus}",
             f"--set-json=workspace.accessModes={MANY}")  # fmt: skip
    [group] = chart.one("RayJob", *flags)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert ("nodeSelector" in group["template"]["spec"]) is bool(gpus)


def sharing(objects: list[Object]) -> dict[str, tuple[set[str], list[Any]]]:
    """Where a pod lies → the claims it mounts, and its required pod affinities."""
    found = {}
    for pod in (pod for one in objects for pod in pods(one)):
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod.spec.get("volumes") or []
            if "persistentVolumeClaim" in volume
        }
        near = (pod.spec.get("affinity") or {}).get("podAffinity") or {}
        found[pod.where] = (claims, near.get("requiredDuringSchedulingIgnoredDuringExecution") or [])
    return found


def affected(found: dict[str, tuple[set[str], list[Any]]], claim: str) -> list[list[Any]]:
    return [terms for claims, terms in found.values() if claim in claims]


def test_pods_of_a_claim_for_one_node_share_it(chart: Chart) -> None:
    found = sharing(chart.objects(*PVC, *RETRAIN))
    for claim in ("marquee-bundles", "marquee-workspace"):
        terms = affected(found, claim)
        assert len(terms) >= 4
        assert all(one == terms[0] and len(one) == 1 for one in terms)
        assert terms[0][0]["topologyKey"] == "kubernetes.io/hostname"


def test_what_may_spread_does(chart: Chart) -> None:
    many = (f"--set-json=bundleStore.pvc.accessModes={MANY}", f"--set-json=workspace.accessModes={MANY}")
    assert all(terms == [] for _, terms in sharing(chart.objects(*PVC, *RETRAIN, *many)).values())
    found = sharing(chart.objects(*BOOTSTRAP, *RETRAIN))  # bundles in an object store
    assert all(terms for terms in affected(found, "marquee-workspace"))
    assert all(
        terms == []
        for where, (claims, terms) in found.items()
        if not claims and "submitterPodTemplate" not in where
    )


def test_an_affinity_of_ones_own_stays(chart: Chart) -> None:
    mine = (
        '{"nodeAffinity":{"x":1},"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"y":2}]}}'
    )
    found = job(chart, *PVC, f"--set-json=bootstrap.affinity={mine}")["spec"]["template"]["spec"]["affinity"]
    assert found["nodeAffinity"] == {"x": 1}
    assert found["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0] == {"y": 2}
    assert len(found["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]) == 2


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_environment_has_a_way_to_its_first_bundle(chart: Chart, values: Path) -> None:
    objects = chart.objects(values)
    [service] = [one for one in objects if one["kind"] == "RayService"]
    jobs = [one for one in objects if one["kind"] == "Job" and "bootstrap" in one["metadata"]["name"]]
    named = "bundle: " in service["spec"]["serveConfigV2"].replace('bundle: ""', "")
    assert named or len(jobs) == 1


def test_the_default_claims_are_what_every_cluster_has(chart: Chart) -> None:
    claims = [one for one in chart.objects(*PVC) if one["kind"] == "PersistentVolumeClaim"]
    assert [one["spec"]["accessModes"] for one in claims] == [["ReadWriteOnce"]] * 2
