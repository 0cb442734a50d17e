"""The RayService runs the application of this repository, at sizes that fit the pods it has."""

import socket
import subprocess
import sys
from pathlib import PurePosixPath
from typing import Any, cast

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from k8s.traffic_object import TrafficObject
from serving.config import ServeConfig
from serving.deployments.ingress import Ingress
from serving.traffic.desired import KEY
from tests.chart.pods import pods
from tests.chart.rendering import REQUIRED, ROOT, Chart, Object

LEAST_GRACE_S = 90
"""Seconds between a pod's end being asked for and SIGKILL."""


@pytest.fixture
def service(objects: list[Object]) -> dict[str, Any]:
    """The spec of the RayService."""
    [found] = [each for each in objects if each["kind"] == "RayService"]
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.fixture
def application(service: dict[str, Any]) -> dict[str, Any]:
    [found] = yaml.safe_load(service["serveConfigV2"])["applications"]
    application: dict[str, Any] = found
    return application


@pytest.fixture
def config(application: dict[str, Any]) -> ServeConfig:
    return ServeConfig.model_validate(application["args"])


@pytest.fixture
def workers(service: dict[str, Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = service["rayClusterConfig"]["workerGroupSpecs"]
    return groups


def deployments(config: ServeConfig) -> list[str]:
    """Names of the deployments that the application has with this configuration."""
    return [Ingress.__name__, *config.groups]


def test_ray_serve_takes_the_whole_configuration(service: dict[str, Any]) -> None:
    """Its own schema, DeploymentSchema included; a warning of it fails the test."""
    parsed = ServeDeploySchema.model_validate(yaml.safe_load(service["serveConfigV2"]))
    assert [each.import_path for each in parsed.applications] == ["serving.app:build"]


def test_ray_serve_knows_every_field(service: dict[str, Any], application: dict[str, Any]) -> None:
    """It ignores what it does not know, so a misspelt limit would be none."""
    whole = yaml.safe_load(service["serveConfigV2"])
    assert whole.keys() <= ServeDeploySchema.model_fields.keys()
    assert application.keys() <= ServeApplicationSchema.model_fields.keys()
    for deployment in application["deployments"]:
        assert deployment.keys() <= DeploymentSchema.model_fields.keys()
        assert deployment["autoscaling_config"].keys() <= AutoscalingConfig.model_fields.keys()


def test_each_deployment_of_the_application_is_sized_once(
    application: dict[str, Any], config: ServeConfig
) -> None:
    """One that the application does not have would stop Serve's deploy."""
    assert [each["name"] for each in application["deployments"]] == deployments(config)


def test_a_group_differs_from_the_defaults_where_it_says_so(chart: Chart) -> None:
    """A 0 included, which Helm's own `merge` would take for nothing."""
    flags = [
        f"--set=replicas.groups.{given}"
        for given in (
            "a.stages={ranking,retrieval}", "a.num_cpus=2", "a.autoscaling_config.upscale_delay_s=0",
            "b.stages={explain}",
        )
    ]  # fmt: skip
    found = chart.one("RayService", *REQUIRED, *flags)
    [application] = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
    groups = ServeConfig.model_validate(application["args"]).groups
    assert {name: (group.stages, group.num_cpus) for name, group in groups.items()} == {
        "a": (("retrieval", "ranking"), 2),
        "b": (("explain",), 1),
    }
    _, a, b = application["deployments"]
    assert (a["name"], b["name"]) == ("a", "b")
    assert a["autoscaling_config"] == {**b["autoscaling_config"], "upscale_delay_s": 0}
    assert b["autoscaling_config"]["upscale_delay_s"] > 0


def test_no_environment_asks_for_gpus_to_serve() -> None:
    """Until one names the runtime that computes on them."""
    for path in (ROOT / "k8s" / "environments").glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        groups = values.get("replicas", {}).get("groups", {})
        assert all(group.get("num_gpus", 0) == 0 for group in groups.values()), path
        assert not values["workers"].get("gpu", {}).get("enabled", False), path


def test_serve_knows_nothing_of_traffic_and_every_worker_mounts_its_object(
    objects: list[Object], application: dict[str, Any], config: ServeConfig, workers: list[dict[str, Any]]
) -> None:
    """An upgrade, a rollback of Helm or a second cluster then cannot move a user."""
    assert all("user_config" not in each for each in application["deployments"])
    folder = PurePosixPath(config.traffic_file).parent
    assert PurePosixPath(config.traffic_file).name == KEY
    for group in workers:
        spec = group["template"]["spec"]
        [mount] = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "traffic"]
        assert mount == {
            "name": "traffic",
            "mountPath": str(folder),
            "readOnly": True,
        }  # no subPath: it moves
        [volume] = [one for one in spec["volumes"] if one["name"] == "traffic"]
        assert volume["configMap"] == {"name": folder.name, "optional": True}
    assert folder.name not in {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}


def test_the_controller_names_the_object_that_pods_mount(chart: Chart) -> None:
    service = chart.one("RayService", *REQUIRED)["metadata"]["name"]
    folder = PurePosixPath(
        yaml.safe_load(chart.one("RayService", *REQUIRED)["spec"]["serveConfigV2"])["applications"][0][
            "args"
        ]["traffic_file"]
    ).parent
    assert TrafficObject(cast("Any", None), "prod", service).name == folder.name


def test_a_release_may_begin_without_a_bundle(chart: Chart) -> None:
    found = chart.one(
        "RayService", *REQUIRED, "--set=config.bundle=", "--set=bundleStore.url=s3://models/bundles"
    )
    [application] = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
    config = ServeConfig.model_validate(application["args"])
    assert config.first is None


def test_a_replica_refuses_in_its_own_words_before_serve_does(
    application: dict[str, Any], config: ServeConfig
) -> None:
    """Beyond `in_flight` the ingress answers problem+json, beyond `max_ongoing_requests` Ray plain text."""
    assert application["deployments"][0]["max_ongoing_requests"] > config.limits.in_flight


def test_serve_waits_longer_than_the_application(service: dict[str, Any], config: ServeConfig) -> None:
    given_up_s = yaml.safe_load(service["serveConfigV2"])["http_options"]["request_timeout_s"]
    assert given_up_s * 1_000 > config.budgets.request_max


def capacity(workers: list[dict[str, Any]], replicas: str) -> tuple[float, float]:
    """Cores and GPUs of all groups when each has its `minReplicas` or `maxReplicas`."""
    cores = gpus = 0.0
    for group in workers:
        resources = group["template"]["spec"]["containers"][0]["resources"]
        cores += group[replicas] * float(resources["requests"]["cpu"])
        gpus += group[replicas] * float(resources["limits"].get("nvidia.com/gpu", 0))
    return cores, gpus


@pytest.mark.parametrize("replicas", ["min", "max"])
def test_all_replicas_fit_the_workers(
    application: dict[str, Any], config: ServeConfig, workers: list[dict[str, Any]], replicas: str
) -> None:
    """Else some would wait for ever, and with them the upgrade that waits for their health."""
    sizes = [config.ingress, *config.groups.values()]
    counts = [each["autoscaling_config"][f"{replicas}_replicas"] for each in application["deployments"]]
    cores, gpus = capacity(workers, f"{replicas}Replicas")
    pairs = list(zip(sizes, counts, strict=True))
    assert sum(size.num_cpus * count for size, count in pairs) <= cores
    assert sum(size.num_gpus * count for size, count in pairs) <= gpus


def test_the_head_serves_nothing(service: dict[str, Any]) -> None:
    head = service["rayClusterConfig"]["headGroupSpec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    assert head["rayStartParams"]["num-cpus"] == "0"


def test_ports_that_kuberay_looks_up_by_name_are_named(
    service: dict[str, Any], workers: list[dict[str, Any]]
) -> None:
    """It adds its own only to a container that names none."""

    def ports(group: dict[str, Any]) -> dict[str, int]:
        [ray] = [each for each in group["template"]["spec"]["containers"] if each["name"] == "ray"]
        return {port["name"]: port["containerPort"] for port in ray["ports"]}

    head = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}
    assert ports(service["rayClusterConfig"]["headGroupSpec"]) == head
    for group in workers:
        assert ports(group) == {"serve": 8000, "metrics": 8080}


def test_kuberay_finds_its_finalizer_and_has_nothing_to_write(chart: Chart) -> None:
    """It would write the whole object, own its lists from then on, and Helm 4 would not get them back."""
    assert chart.one("RayService", *REQUIRED)["metadata"]["finalizers"] == ["ray.io/rayservice-finalizer"]


def test_a_cluster_is_not_held_for_ever_by_state_that_is_gone(chart: Chart) -> None:
    """KubeRay gives a RayService's annotations to its RayClusters, and reads this one there, in seconds."""
    found = chart.one("RayService", *REQUIRED)
    limit_s = int(found["metadata"]["annotations"]["ray.io/gcs-ft-deletion-timeout"])
    head = found["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert 2 * head["terminationGracePeriodSeconds"] < limit_s


def test_a_worker_leaves_slowly_and_apart_from_the_others(workers: list[dict[str, Any]]) -> None:
    for group in workers:
        spec = group["template"]["spec"]
        stop_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= LEAST_GRACE_S
        assert 0 < stop_s < spec["terminationGracePeriodSeconds"]
        for spread in spec["topologySpreadConstraints"]:
            labels = group["template"]["metadata"]["labels"]
            assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


def test_probes_need_nothing_that_the_image_lacks(
    service: dict[str, Any], workers: list[dict[str, Any]]
) -> None:
    """KubeRay's own probes call wget: for a Ray before 2.53, and for the readiness of a pod that serves."""
    version = service["rayClusterConfig"]["rayVersion"]
    assert tuple(map(int, version.split("."))) >= (2, 53, 0)
    for group in workers:
        assert "readinessProbe" in group["template"]["spec"]["containers"][0]


def test_ray_has_a_token_and_its_state_outlives_it(service: dict[str, Any]) -> None:
    cluster = service["rayClusterConfig"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"].startswith(("redis://", "rediss://"))


def test_gpus_are_asked_for_selected_and_tolerated(chart: Chart) -> None:
    found = chart.one(
        "RayService", *REQUIRED, "--set=workers.gpu.enabled=true", "--set=workers.gpu.minReplicas=2",
        "--set=workers.gpu.gpus=2",
    )  # fmt: skip
    [group] = [
        each for each in found["spec"]["rayClusterConfig"]["workerGroupSpecs"] if each["groupName"] == "gpu"
    ]
    spec = group["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert spec["containers"][0]["image"].endswith("-cuda")
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("enabled", "strategy"), [(False, "NewCluster"), (True, "NewClusterWithIncrementalUpgrade")]
)
def test_the_upgrade_is_incremental_where_gateway_api_is(chart: Chart, enabled: bool, strategy: str) -> None:
    flags = ["--set=gateway.className=istio", '--set-json=networkPolicy.entryFrom=[{"podSelector":{}}]']
    found = chart.one("RayService", *REQUIRED, *flags, f"--set=gateway.enabled={str(enabled).lower()}")
    assert found["spec"]["upgradeStrategy"]["type"] == strategy


def test_a_value_of_config_reaches_the_application(chart: Chart) -> None:
    found = chart.one("RayService", *REQUIRED, "--set=config.budgets.ranker=123")
    [application] = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
    assert ServeConfig.model_validate(application["args"]).budgets.ranker == 123


def test_a_cluster_collects_what_replicas_log_as_json_with_users_hashed(chart: Chart) -> None:
    """Ray keeps a worker's lines in a file of its pod unless told otherwise.

    For a RayJob it has to: from there they come into the log of its driver.
    """
    flags = ("--set=logs.existingSecret=log-key", "--set=retrain.enabled=true")
    service, job = chart.one("RayService", *REQUIRED, *flags), chart.one("RayJob", *REQUIRED, *flags)
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert ServeConfig.model_validate(application["args"]).logs.format == "json"
    for found, to_stderr in ((service, "1"), (job, None)):
        for pod in pods(found):
            for _, container in pod.containers():
                env = {variable["name"]: variable for variable in container.get("env", [])}
                if container["name"] == "ray":
                    assert env.get("RAY_LOG_TO_STDERR", {}).get("value") == to_stderr
                    for name in ("RAY_BACKEND_LOG_LEVEL", "RAY_LOGGER_LEVEL"):
                        assert env.get(name, {}).get("value") == ("warning" if to_stderr else None)
                    key = env["MARQUEE_LOG_KEY"]["valueFrom"]["secretKeyRef"]
                    assert (key["name"], key["key"]) == ("log-key", "key")


def test_the_head_waits_for_its_redis_longer_than_a_pod_needs_to_move(service: dict[str, Any]) -> None:
    """600 half seconds; by default 120, after which another head is started, and so on."""
    [container] = [
        each
        for each in service["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
        if each["name"] == "ray"
    ]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert int(env["RAY_redis_db_connect_retries"]) / 2 >= 300


def test_the_name_of_the_chart_s_redis_is_known_while_no_pod_is_ready(chart: Chart) -> None:
    """A headless Service's is not, and Ray's control store ends at once where a name is unknown."""
    made = chart.objects(*REQUIRED)
    [ray] = [each for each in made if each["kind"] == "RayService"]
    address = ray["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"]
    name = address.removeprefix("redis://").partition(":")[0]
    [named] = [each for each in made if each["kind"] == "Service" and each["metadata"]["name"] == name]
    [redis] = [each for each in made if each["kind"] == "StatefulSet"]
    assert named["spec"].get("clusterIP") is None
    labels = redis["spec"]["template"]["metadata"]["labels"]
    assert named["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("", ["marquee-redis-client", "6379"]),
        ("redis://state", ["state", ""]),
        ("rediss://state.example.com:6380", ["state.example.com", "6380"]),
    ],
)
def test_a_head_starts_once_its_redis_can_be_reached(chart: Chart, address: str, place: list[str]) -> None:
    """Ray's control store ends where the name is not known, whatever its settings."""
    found = chart.one("RayService", *REQUIRED, f"--set=ray.gcsFaultTolerance.redisAddress={address}")
    pod = found["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    [waiting] = pod["initContainers"]
    assert waiting["command"][:2] == ["python", "-c"]
    assert waiting["command"][3:] == place
    without = chart.one("RayService", *REQUIRED, "--set=ray.gcsFaultTolerance.enabled=false")
    head = without["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert not head.get("initContainers")


def test_who_waits_for_redis_ends_when_it_listens(chart: Chart) -> None:
    found = chart.one("RayService", *REQUIRED)
    pod = found["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    script = pod["initContainers"][0]["command"][2]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-c", script, "127.0.0.1", port]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("waiting for Redis at 127.0.0.1: ")
            listener.listen()
            assert process.wait(60) == 0
