"""Values that cannot work are refused before anything is installed, in words that say what to change."""

import pytest
import yaml

from tests.chart.rendering import CHART, REQUIRED, Chart

ENTRY = '--set-json=networkPolicy.entryFrom=[{"podSelector":{}}]'
PVC = ("--set=bundleStore.type=pvc", "--set=config.bundle=/bundles/first")
GATEWAY = ("--set=gateway.enabled=true", "--set=gateway.className=istio", ENTRY)

SCHEMA = {
    # what is said wrongly: (the flag, what the message names)
    "an unknown key": ("--set=replicaCount=3", "replicaCount"),
    "an unknown key deep inside": ("--set=workers.cpu.minReplica=3", "minReplica"),
    "an unknown key of ServeConfig": ("--set=config.buget.request=300", "buget"),
    "an unknown key inside ServeConfig": ("--set=config.budgets.rankr=300", "rankr"),
    "text for a number": ("--set-string=workers.cpu.minReplicas=two", "minReplicas"),
    "a number for a switch": ("--set=networkPolicy.enabled=1", "networkPolicy/enabled"),
    "a percentage of pods": ("--set-string=workers.cpu.podDisruptionBudget.minAvailable=50%", "minAvailable"),
    "no replica at all": ("--set=replicas.ingress.autoscaling_config.min_replicas=0", "min_replicas"),
    "a grace period that is too short": ("--set=serve.terminationGracePeriodSeconds=30", "termination"),
    "a port out of range": ("--set=redis.external.port=70000", "port"),
    "a share above one": ("--set=tracing.sampleRatio=5", "sampleRatio"),
    "a store that there is not": ("--set=bundleStore.type=ftp", "bundleStore/type"),
    "a stage that there is not": ("--set=replicas.groups.a.stages={search}", "groups/a/stages/0"),
    "a group of nothing": ("--set-json=replicas.groups.a.stages=[]", "groups/a/stages"),
    "a group that names no stages": ("--set=replicas.groups.a.num_gpus=1", "groups/a"),
    "an unknown key of a group": ('--set-json=replicas.groups.a={"stages":["ranking"],"gpus":1}', "gpus"),
    "an unknown key of the ingress": ("--set=replicas.ingress.stages={ranking}", "replicas/ingress"),
    "a strength out of range": ("--set=config.diversity.strength=2", "strength"),
    "a schedule that is none": ("--set=retrain.schedule=nightly", "schedule"),
    "a digest that is none": ("--set=image.digest=sha256:abc", "digest"),
    "a quantity that is none": ("--set=bundleStore.pvc.size=lots", "size"),
}
TOGETHER = {
    # what does not go together: (flags, what the message says)
    "a bootstrap without a store": (("--set=config.bundle=",), "bundleStore.url is empty"),
    "a folder of another store": (("--set=bundleStore.url=gs://models",), "bundleStore.url is"),
    "a folder of no claim": (("--set=bootstrap.datasetPath=tables",), "bootstrap.datasetClaim"),
    "tables in two places": (
        ("--set=bootstrap.datasetPath=s3://tables", "--set=bootstrap.datasetClaim=tables"),
        "say one of them",
    ),
    "one node for pods that select different ones": (
        (*PVC, "--set=workers.gpu.enabled=true"),
        "head and workers.gpu select different nodes",
    ),
    "one node for pods that must spread": (
        (*PVC, '--set-json=workers.cpu.topologySpreadConstraints=[{"topologyKey":"kubernetes.io/hostname",'
               '"maxSkew":1,"whenUnsatisfiable":"DoNotSchedule"}]'),
        "must spread over kubernetes.io/hostname",
    ),
    "a workspace for one node and jobs on two kinds": (
        ("--set=materialize.enabled=true", "--set=retrain.enabled=true", "--set=retrain.worker.gpus=1"),
        "workspace.accessModes is ReadWriteOnce",
    ),
    "a claim for one pod": (('--set-json=workspace.accessModes=["ReadWriteOncePod"]',), "ReadWriteOncePod"),
    "a bundle of another store": (("--set=config.bundle=/bundles/first",), "bundleStore.type"),
    "no password for Redis": (("--set=redis.existingSecret=",), "kubectl create secret generic"),
    "an external Redis without a host": (("--set=redis.external.enabled=true",), "redis.external.host"),
    "a group on GPUs that are not there": (
        (
            "--set=replicas.groups.a.stages={ranking}",
            "--set=replicas.groups.a.num_gpus=1",
            "--set=replicas.groups.a.runtime=torch",
        ),
        "replicas.groups.a.num_gpus is above 0 without GPU workers: set workers.gpu.enabled=true",
    ),
    "a group on GPUs that its runtime does not use": (
        (
            "--set=replicas.groups.a.stages={ranking}",
            "--set=replicas.groups.a.num_gpus=1",
            "--set=workers.gpu.enabled=true",
        ),
        "replicas.groups.a.num_gpus is above 0 with runtime onnx, which uses no GPU: set runtime to torch",
    ),
    "a network on a server that is not named": (
        ("--set=replicas.ingress.runtime=triton",),
        "replicas.ingress.runtime is triton without a server: set config.runtimes.triton.address",
    ),
    "a group smaller at most than at least": (
        (
            "--set=replicas.groups.a.stages={ranking}",
            "--set=replicas.groups.a.autoscaling_config.max_replicas=1",
        ),
        "replicas.groups.a.autoscaling_config: min_replicas is above max_replicas",
    ),
    "a group named as the ingress": (
        ("--set=replicas.groups.Ingress.stages={ranking}",),
        'a group cannot be named "Ingress"',
    ),
    "a group named as no deployment can be": (
        ("--set=replicas.groups.a#b.stages={ranking}",),
        'a group cannot be named "a#b"',
    ),
    "a stage in two groups": (
        ("--set=replicas.groups.a.stages={retrieval,ranking}", "--set=replicas.groups.b.stages={ranking}"),
        "ranking is in replicas.groups.a and replicas.groups.b: leave it in one",
    ),
    "the stages of an earlier version": (
        ("--set=stages.ingress.num_cpus=1",),
        "stages is now replicas: write stages.ingress as replicas.ingress",
    ),
    "the placement of an earlier version": (
        ("--set=config.placement.ranking=deployment",),
        "config.placement is now replicas.groups",
    ),
    "more replicas at least than at most": (
        ("--set=replicas.ingress.autoscaling_config.min_replicas=20",),
        "min_replicas is above max_replicas",
    ),
    "more workers at least than at most": (("--set=workers.cpu.minReplicas=20",), "above maxReplicas"),
    "a budget that lets no node be drained": (
        ("--set=workers.cpu.podDisruptionBudget.minAvailable=2",),
        "must be below minReplicas",
    ),
    "an entry that nobody may use": (("--set=ingress.enabled=true",), "networkPolicy.entryFrom is empty"),
    "a gateway without a class": (("--set=gateway.enabled=true", ENTRY), "gateway.className is empty"),
    "a gateway without the autoscaler": (
        (*GATEWAY, "--set=ray.autoscaler.enabled=false"),
        "needs ray.autoscaler.enabled=true",
    ),
    "two entries at once": ((*GATEWAY, "--set=ingress.enabled=true"), "excludes ingress.enabled"),
    "a route that hangs on nothing": (("--set=httpRoute.enabled=true", ENTRY), "httpRoute.parentRefs"),
    "a preStop as long as the grace": (("--set=serve.preStopSeconds=100",), "raise the latter"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCHEMA)
def test_the_schema_refuses(chart: Chart, case: str) -> None:
    flag, named = SCHEMA[case]
    said = chart.refusal(*REQUIRED, flag)
    assert "values don't meet the specifications of the schema" in said
    assert named in said


@pytest.mark.parametrize("case", TOGETHER)
def test_the_chart_refuses(chart: Chart, case: str) -> None:
    flags, named = TOGETHER[case]
    said = chart.refusal(*REQUIRED, *flags)
    assert "These values cannot work" in said
    assert named in said


def test_every_fault_is_told_at_once(chart: Chart) -> None:
    said = chart.refusal()
    assert "bundleStore.url is empty" in said
    assert "redis.existingSecret is empty" in said


def test_every_level_of_the_values_refuses_unknown_keys(chart: Chart) -> None:
    """One unknown key in each group of the chart's own, all at once: each is named."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = {
        "nodeSelector",
        "resources",
        "affinity",
        "podAnnotations",
        "podLabels",
        "annotations",
        "labels",
        "groups",
    }

    def groups(node: object, path: str = "") -> list[str]:
        if not isinstance(node, dict):
            return []
        below = [
            found
            for key, child in node.items()
            if key not in free
            for found in groups(child, f"{path}{key}.")
        ]
        return [path, *below]

    found = groups(values)
    assert len(found) > 20
    names = {path: f"unknown{index}x" for index, path in enumerate(found)}
    said = chart.refusal(*REQUIRED, *(f"--set={path}{name}=1" for path, name in names.items()))
    assert [path for path, name in names.items() if f"'{name}'" not in said] == []


def test_the_flags_break_values_that_exist() -> None:
    """Else the schema would refuse the key, and not what is wrong with its value."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for case, (flag, _) in SCHEMA.items():
        node = values
        for key in flag.split("=")[1].split("."):
            node = node.get(key) if isinstance(node, dict) else None
        # ServeConfig's fields have their defaults there, and not in values.yaml; groups are named freely.
        elsewhere = "=config." in flag or "=replicas.groups." in flag
        assert (node is None) == case.startswith("an unknown key") or elsewhere, case
