"""The RayJob trains on its whole worker group, and its pods share what a training needs."""

import typing
from pathlib import Path
from typing import Any

import pytest

import training.cli
from k8s.jobs import Sizes, sized
from tests.chart.rendering import REQUIRED, Chart, Object
from training.recipe import DEFAULT as SHIPPED


def job(chart: Chart, *flags: str) -> Object:
    return chart.one("RayJob", *REQUIRED, "--set=retrain.enabled=true", *flags)


def pods(found: Object) -> list[dict[str, Any]]:
    """Specs of the head's pod, then the worker's."""
    cluster = found["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def env(spec: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in spec["containers"][0]["env"]}


def read_by_train(option: str) -> str:
    """The variable of an option of `marquee train`."""
    hint = typing.get_type_hints(training.cli.train, include_extras=True)[option]
    variable: str = hint.__metadata__[0].envvar
    return variable


@pytest.mark.parametrize(
    ("replicas", "gpus", "processes", "gpu"), [(2, 1, "2", "true"), (2, 4, "8", "true"), (3, 0, "3", "false")]
)
def test_a_process_trains_on_each_gpu_or_without_any_in_each_pod(
    chart: Chart, replicas: int, gpus: int, processes: str, gpu: str
) -> None:
    found = job(chart, f"--set=retrain.worker.replicas={replicas}", f"--set=retrain.worker.gpus={gpus}")
    told = env(pods(found)[0])
    assert (told[read_by_train("workers")], told[read_by_train("gpu")]) == (processes, gpu)
    again = sized(found, Sizes(workers=replicas, gpus=gpus))
    assert env(pods(again)[0]) == told, "`marquee train submit` and the chart count alike"


def test_no_worker_trains_on_the_head(chart: Chart) -> None:
    head = job(chart)["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}


def test_head_and_workers_share_the_folder_of_data_and_checkpoints(chart: Chart) -> None:
    claims = []
    for spec in pods(job(chart)):
        [mount] = [
            each
            for each in spec["containers"][0]["volumeMounts"]
            if each["mountPath"] == env(spec)[read_by_train("home")]
        ]
        [volume] = [each for each in spec["volumes"] if each["name"] == mount["name"]]
        assert not mount.get("readOnly")
        claims.append(volume["persistentVolumeClaim"]["claimName"])
    assert claims == ["marquee-workspace"] * 2


def test_the_head_names_the_port_by_which_kuberay_submits(chart: Chart) -> None:
    """Without it KubeRay leaves the RayJob at Initializing for ever, and says why in its own log only."""
    head, worker = pods(job(chart))
    ports = {one["name"]: one["containerPort"] for one in head["containers"][0]["ports"]}
    assert ports["dashboard"] == 8265
    assert "dashboard" not in {one["name"] for one in worker["containers"][0]["ports"]}


def test_by_default_a_cluster_without_gpus_can_do_it(chart: Chart) -> None:
    for spec in pods(job(chart)):
        assert "nodeSelector" not in spec
        limits = spec["containers"][0]["resources"]["limits"]
        assert "nvidia.com/gpu" not in limits


def test_a_recipe_of_the_values_is_what_every_training_reads(chart: Chart, tmp_path: Path) -> None:
    """Byte by byte, and where the variable says."""
    text = SHIPPED.read_text(encoding="utf-8")
    (film := tmp_path / "films.yaml").write_text(text, encoding="utf-8")
    flags = ("--set=bundleStore.url=s3://models/bundles", "--set=redis.existingSecret=marquee-redis")
    given = (*flags, "--set=retrain.enabled=true", f"--set-file=recipe={film}")
    bootstrap = chart.one("Job", *given)["spec"]["template"]["spec"]
    for spec in (bootstrap, pods(chart.one("RayJob", *given))[0]):
        folder, _, name = env(spec)[read_by_train("recipe")].rpartition("/")
        [mount] = [each for each in spec["containers"][0]["volumeMounts"] if each["mountPath"] == folder]
        [volume] = [each for each in spec["volumes"] if each["name"] == mount["name"]]
        [found] = [
            each
            for each in chart.objects(*given)
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == volume["configMap"]["name"]
        ]
        assert found["data"][name] == text


def test_without_a_recipe_the_one_that_ships_is_trained(chart: Chart) -> None:
    assert read_by_train("recipe") not in env(pods(job(chart))[0])
    assert not [each for each in pods(job(chart))[0]["volumes"] if each["name"] == "recipe"]
