"""Each template off, by default, and overridden. A template without a row fails."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, REQUIRED, Chart, Object

ALWAYS: tuple[str, ...] = ()
FILES = {"dashboards.yaml": "files/dashboards/*.json", "prometheusrule.yaml": "files/rules/*.yaml"}
"""Templates that only carry files of the chart: without those they make nothing."""


@dataclass(frozen=True)
class Row:
    """Attributes:
    template: path below templates/.
    default: whether it makes objects when only what is required is said.
    toggle: flags that turn it on where it is off by default, and off where it is on; none: it always is.
    override: flags beside those that turn it on.
    at: path of a field in one of its objects, with [n] for an item of a list.
    value: what the field is then, and is not without them.
    """

    template: str
    default: bool
    toggle: tuple[str, ...]
    override: tuple[str, ...]
    at: str
    value: Any


def on(template: str, toggle: tuple[str, ...], override: tuple[str, ...], at: str, value: Any) -> Row:
    return Row(template, True, toggle, override, at, value)


def off(template: str, toggle: tuple[str, ...], override: tuple[str, ...], at: str, value: Any) -> Row:
    return Row(template, False, toggle, override, at, value)


EXTERNAL = ("--set=redis.external.enabled=true", "--set=redis.external.host=redis.example.com")
ENTRY = '--set-json=networkPolicy.entryFrom=[{"podSelector":{}}]'
MATERIALIZE = ("--set=materialize.enabled=true",)
RETRAIN = ("--set=retrain.enabled=true",)
LOADTEST = ("--set=loadtest.enabled=true",)
MONITORING = ("--set=monitoring.enabled=true",)
NO_POLICIES = ("--set=networkPolicy.enabled=false",)
NO_CONTROLLER = ("--set=controller.enabled=false",)
RENAMED = ("--set=fullnameOverride=other",)
PEERS = '[{"ipBlock":{"cidr":"10.0.0.0/8"}}]'
BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8"}}
CONTAINER = "spec.template.spec.containers[0]"
JOB_CONTAINER = "spec.jobTemplate.spec.template.spec.containers[0]"
PVC = ("--set=bundleStore.type=pvc", "--set=config.bundle=/bundles/first")
HEAD = "spec.rayClusterConfig.headGroupSpec.template.spec"

BOOTSTRAP = ("--set=config.bundle=", "--set=bundleStore.url=s3://models/bundles")

ROWS = [
    off("bootstrap-job.yaml", BOOTSTRAP, ("--set=bootstrap.backoffLimit=7",), "spec.backoffLimit", 7),
    off("bootstrap-role.yaml", BOOTSTRAP, RENAMED, "rules[1].resourceNames[0]", "other-traffic"),
    off("bootstrap-rolebinding.yaml", BOOTSTRAP, RENAMED, "subjects[0].name", "other-bootstrap"),
    off("bundles-pvc.yaml", PVC, ("--set=bundleStore.pvc.size=7Gi",),
        "spec.resources.requests.storage", "7Gi"),
    on("controller-deployment.yaml", NO_CONTROLLER, ("--set=controller.resources.limits.memory=1Gi",),
       f"{CONTAINER}.resources.limits.memory", "1Gi"),
    on("controller-role.yaml", NO_CONTROLLER, RENAMED, "rules[0].resourceNames[0]", "other"),
    on("controller-rolebinding.yaml", NO_CONTROLLER, RENAMED, "roleRef.name", "other-controller"),
    off("dashboards.yaml", ("--set=monitoring.dashboards.enabled=true",),
        ("--set=monitoring.dashboards.folder=Shop",), "metadata.annotations.grafana_folder", "Shop"),
    off("gateway.yaml",
        ("--set=httpRoute.enabled=true", "--set=httpRoute.gateway.create=true",
         "--set=httpRoute.gateway.className=envoy", ENTRY),
        ("--set=httpRoute.gateway.className=cilium",), "spec.gatewayClassName", "cilium"),
    off("httproute.yaml",
        ("--set=httpRoute.enabled=true", '--set-json=httpRoute.parentRefs=[{"name":"shared"}]', ENTRY),
        ("--set=httpRoute.timeout=50s",), "spec.rules[0].timeouts.request", "50s"),
    off("ingress.yaml", ("--set=ingress.enabled=true", ENTRY),
        ("--set=ingress.host=films.example.com",), "spec.rules[0].host", "films.example.com"),
    off("loadtest-master.yaml", LOADTEST, ("--set=loadtest.image.repository=else/where",),
        f"{CONTAINER}.image", "else/where:0.3.0"),
    off("loadtest-service.yaml", LOADTEST, RENAMED, "metadata.name", "other-loadtest"),
    off("loadtest-workers.yaml", LOADTEST, ("--set=loadtest.workers=9",), "spec.parallelism", 9),
    off("materialize-cronjob.yaml", MATERIALIZE, ("--set=materialize.schedule=@daily",),
        "spec.schedule", "@daily"),
    off("networkpolicy-bootstrap.yaml", BOOTSTRAP, (f"--set-json=networkPolicy.dataTo={PEERS}",),
        "spec.egress[4].to[0]", BLOCK),
    on("networkpolicy-controller.yaml", NO_POLICIES, (f"--set-json=networkPolicy.prometheusTo={PEERS}",),
       "spec.egress[1].to[0]", BLOCK),
    on("networkpolicy-default.yaml", NO_POLICIES, (f"--set-json=networkPolicy.dnsTo={PEERS}",),
       "spec.egress[0].to[0]", BLOCK),
    on("networkpolicy-head.yaml", NO_POLICIES, (f"--set-json=networkPolicy.operatorFrom={PEERS}",),
       "spec.ingress[0].from[0]", BLOCK),
    off("networkpolicy-loadtest.yaml", LOADTEST, ("--set=loadtest.host=http://else.where:81",),
        "spec.egress[1].ports[0].port", 81),
    off("networkpolicy-materialize.yaml", MATERIALIZE, (*EXTERNAL, "--set=redis.external.port=6380"),
        "spec.egress[0].ports[0].port", 6380),
    on("networkpolicy-ray.yaml", NO_POLICIES, (f"--set-json=networkPolicy.entryFrom={PEERS}",),
       "spec.ingress[1].from[1]", BLOCK),
    on("networkpolicy-redis.yaml", EXTERNAL,
       ("--set=redis.internal.metrics.enabled=true", f"--set-json=networkPolicy.monitoringFrom={PEERS}"),
       "spec.ingress[1].from[0]", BLOCK),
    off("networkpolicy-retrain.yaml", RETRAIN, (f"--set-json=networkPolicy.apiServerTo={PEERS}",),
        "spec.egress[0].to[0]", BLOCK),
    on("networkpolicy-test.yaml", NO_POLICIES, RENAMED, "metadata.name", "other-test"),
    off("networkpolicy-train.yaml", RETRAIN, (f"--set-json=networkPolicy.operatorFrom={PEERS}",),
        "spec.ingress[1].from[0]", BLOCK),
    on("poddisruptionbudgets.yaml", ("--set=workers.cpu.podDisruptionBudget.enabled=false",),
       ("--set=workers.cpu.minReplicas=4", "--set=workers.cpu.podDisruptionBudget.minAvailable=3"),
       "spec.minAvailable", 3),
    off("podmonitor-ray.yaml", MONITORING, ("--set=monitoring.interval=60s",),
        "spec.podMetricsEndpoints[0].interval", "60s"),
    off("podmonitor-serving.yaml", MONITORING, ("--set=monitoring.labels.release=prometheus",),
        "metadata.labels.release", "prometheus"),
    off("prometheusrule.yaml", MONITORING, ("--set=monitoring.labels.release=prometheus",),
        "metadata.labels.release", "prometheus"),
    on("rayservice.yaml", ALWAYS, ("--set=head.priorityClassName=high",),
       f"{HEAD}.priorityClassName", "high"),
    on("redis-client-service.yaml", EXTERNAL, RENAMED, "metadata.name", "other-redis-client"),
    off("recipe-configmap.yaml", ("--set=recipe=seed: 1",), RENAMED, "metadata.name", "other-recipe"),
    on("redis-configmap.yaml", EXTERNAL, RENAMED, "metadata.name", "other-redis"),
    on("redis-service.yaml", EXTERNAL, ("--set=redis.internal.metrics.enabled=true",),
       "spec.ports[1].port", 9121),
    on("redis-statefulset.yaml", EXTERNAL, ("--set=redis.internal.persistence.storageClassName=fast",),
       "spec.volumeClaimTemplates[0].spec.storageClassName", "fast"),
    off("retrain-configmap.yaml", RETRAIN, ("--set=retrain.backoffLimit=3",), "spec.backoffLimit", 3),
    off("retrain-cronjob.yaml", RETRAIN, ("--set=retrain.resources.limits.memory=1Gi",),
        f"{JOB_CONTAINER}.resources.limits.memory", "1Gi"),
    off("retrain-role.yaml", RETRAIN, RENAMED, "metadata.name", "other-retrain"),
    off("retrain-rolebinding.yaml", RETRAIN, RENAMED, "subjects[0].name", "other-retrain"),
    on("service.yaml", ALWAYS, RENAMED, "metadata.name", "other"),
    on("serviceaccounts.yaml", ALWAYS, ("--set=serviceAccounts.annotations.cloud/role=serving",),
       "metadata.annotations.cloud/role", "serving"),
    off("servicemonitor-redis.yaml", (*MONITORING, "--set=redis.internal.metrics.enabled=true"),
        ("--set=monitoring.interval=60s",), "spec.endpoints[0].interval", "60s"),
    on("tests/answers.yaml", ALWAYS, ("--set=image.tag=1.2.3",), "spec.containers[0].image",
       "marquee/marquee:1.2.3"),
    off("workspace-pvc.yaml", MATERIALIZE, ("--set=workspace.size=99Gi",),
        "spec.resources.requests.storage", "99Gi"),
]  # fmt: skip


def at(found: Object, path: str) -> Any:
    """A field by its path, None where it is not there."""
    node: Any = found
    for part in path.replace("[", ".[").split("."):
        if part.startswith("["):
            index = int(part[1:-1])
            node = node[index] if isinstance(node, list) and index < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def test_every_template_has_a_row() -> None:
    folder = CHART / "templates"
    assert sorted(row.template for row in ROWS) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*.yaml")
    )


def each(row: Row) -> str:
    return row.template


@pytest.fixture(params=ROWS, ids=each)
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    if found.template in FILES and not list(CHART.glob(FILES[found.template])):
        pytest.skip(f"it renders {FILES[found.template]}, and there are none")
    return found


def test_off_and_by_default(chart: Chart, row: Row) -> None:
    assert (row.template in chart.by_template(*REQUIRED)) is row.default
    if row.toggle:
        assert (row.template in chart.by_template(*REQUIRED, *row.toggle)) is not row.default


def test_overridden(chart: Chart, row: Row) -> None:
    active = (*REQUIRED, *(() if row.default else row.toggle))
    before, after = (
        [at(found, row.at) for found in chart.by_template(*active, *flags)[row.template]]
        for flags in ((), row.override)
    )
    assert row.value in after
    assert row.value not in before


def leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of the values that are no groups."""
    if not isinstance(node, dict) or not node:
        return [path]
    return [leaf for key, value in node.items() for leaf in leaves(value, (*path, key))]


def test_no_value_is_left_without_a_use() -> None:
    """Each top-level value, and each below it, stands in some template by its last name or its group's."""
    used = "\n".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    values = yaml.safe_load(Path(CHART / "values.yaml").read_text())
    handed_on = {"resources", "config", "replicas", "nodeSelector", "operatorFrom"}  # whole, with toYaml
    for path in leaves(values):
        if not handed_on & set(path):
            assert path[-1] in used, ".".join(path)
