"""Trainings on a cluster."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from k8s import jobs
from k8s.client import CONFIG_MAPS, PODS, RAY_JOBS
from k8s.job_state import jobs as jobs_of
from k8s.jobs import JobError, Sizes
from tests.k8s.apiserver import Served


def submit(kubernetes: Served, sizes: Sizes, release: str = "marquee") -> str:
    cluster = kubernetes.cluster()
    template = jobs.template(cluster, "prod", release, sizes.image, "shared")
    return jobs.submit(cluster, "prod", release, template, sizes)


def test_a_job_from_the_releases_template(kubernetes: Served) -> None:
    template = jobs.plain("registry/marquee:1", "shared")
    template["metadata"] = {"generateName": "x-", "labels": {"team": "recs"}}
    data = {"rayjob.yaml": yaml.safe_dump(template)}
    kubernetes.put(CONFIG_MAPS, "marquee-train-template", {"data": data})
    name = submit(kubernetes, Sizes(workers=3, gpus=2, memory="32Gi", entrypoint="marquee train --seed 7"))
    job = kubernetes.cluster().get(RAY_JOBS, "prod", name)
    assert name.startswith("marquee-train-")
    assert job["metadata"]["labels"]["team"] == "recs"
    assert job["metadata"]["labels"]["app.kubernetes.io/instance"] == "marquee"
    assert job["spec"]["entrypoint"] == "marquee train --seed 7"
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    [container] = group["template"]["spec"]["containers"]
    wanted = {"nvidia.com/gpu": "2", "memory": "32Gi", "cpu": "4"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert container["image"] == "registry/marquee:1"


def test_without_a_template_an_image_is_needed(kubernetes: Served) -> None:
    with pytest.raises(JobError, match="--image and --claim"):
        submit(kubernetes, Sizes())
    name = submit(kubernetes, Sizes(image="registry/marquee:2"))
    job = kubernetes.cluster().get(RAY_JOBS, "prod", name)
    cluster = job["spec"]["rayClusterSpec"]
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        [container] = template["spec"]["containers"]
        assert container["image"] == "registry/marquee:2"
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert shared(template)


def shared(template: dict[str, Any]) -> bool:
    """Whether MARQUEE_HOME is on the claim."""
    spec = template["spec"]
    [container] = spec["containers"]
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in spec["volumes"]}
    mounted = {each["mountPath"]: claims[each["name"]] for each in container["volumeMounts"]}
    return mounted[told(template)["MARQUEE_HOME"]] == {"claimName": "shared"}


def told(template: dict[str, Any]) -> dict[str, str]:
    [container] = template["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize(
    ("sizes", "processes", "gpu"),
    [
        (Sizes(), "1", "false"),
        (Sizes(workers=3), "3", "false"),
        (Sizes(gpus=2), "2", "true"),
        (Sizes(workers=3, gpus=2), "6", "true"),
        (Sizes(workers=3, gpus=0), "3", "false"),
    ],
)
def test_the_head_is_told_what_its_workers_make(sizes: Sizes, processes: str, gpu: str) -> None:
    job = jobs.sized(jobs.plain("a:1", "shared"), sizes)
    env = told(job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"])
    assert (env["MARQUEE_TRAIN_WORKERS"], env["MARQUEE_TRAIN_GPU"]) == (processes, gpu)
    assert len(env) == 3


def test_what_the_template_tells_stays_where_no_size_is_given() -> None:
    job = jobs.sized(jobs.plain("a:1", "shared"), Sizes(workers=5))
    again = jobs.sized(job, Sizes(memory="1Gi"))
    heads = [each["spec"]["rayClusterSpec"]["headGroupSpec"] for each in (job, again)]
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    "text", ["", "[", "kind: Job", "kind: RayJob\nspec: {rayClusterSpec: {workerGroupSpecs: []}}"]
)
def test_what_is_no_rayjob_says_so(text: str) -> None:
    with pytest.raises(JobError, match="one RayJob"):
        jobs.parse(text)


def test_sizes_leave_the_template_alone() -> None:
    template = jobs.plain("a:1", "shared")
    before = yaml.safe_dump(template)
    jobs.sized(template, Sizes(image="b:2", workers=2, gpus=1))
    assert yaml.safe_dump(template) == before


def test_listed_newest_first_and_only_the_releases_own(kubernetes: Served) -> None:
    for day, release in ((1, "marquee"), (2, "marquee"), (3, "other")):
        metadata = {
            "labels": {"app.kubernetes.io/instance": release},
            "creationTimestamp": f"2026-01-0{day}T00:00:00Z",
        }
        status = {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete"}
        kubernetes.put(RAY_JOBS, f"job-{day}", {"metadata": metadata, "status": status})
    found = jobs_of(kubernetes.cluster(), "prod", "marquee")
    assert [job.name for job in found] == ["job-2", "job-1"]
    assert found[0].status == "SUCCEEDED"


def test_the_log_is_the_submitters(kubernetes: Served) -> None:
    kubernetes.put(RAY_JOBS, "job", {"spec": {}, "status": {"jobDeploymentStatus": "Initializing"}})
    with pytest.raises(JobError, match="Initializing"):
        jobs.logs(kubernetes.cluster(), "prod", "job", follow=False, tail=None)
    kubernetes.put(PODS, "job-x", {"metadata": {"labels": {"batch.kubernetes.io/job-name": "job"}}})
    kubernetes.put(PODS, "else", {"metadata": {"labels": {"batch.kubernetes.io/job-name": "other"}}})
    kubernetes.api["get /api/v1/namespaces/prod/pods/job-x/log"] << b"epoch 1\nepoch 2\n"
    lines = jobs.logs(kubernetes.cluster(), "prod", "job", follow=True, tail=None)
    assert list(lines) == ["epoch 1", "epoch 2"]


def test_a_job_without_a_submitter_says_where_its_log_is(kubernetes: Served) -> None:
    kubernetes.put(
        RAY_JOBS, "job", {"spec": {"submissionMode": "HTTPMode"}, "status": {"rayClusterName": "c"}}
    )
    with pytest.raises(JobError, match="port-forward svc/c-head-svc"):
        jobs.logs(kubernetes.cluster(), "prod", "job", follow=False, tail=None)


def test_cancelled_it_stays_suspended_or_goes(kubernetes: Served) -> None:
    cluster = kubernetes.cluster()
    kubernetes.put(RAY_JOBS, "job", {"spec": {"entrypoint": "x"}})
    jobs.cancel(cluster, "prod", "job", delete=False)
    assert cluster.get(RAY_JOBS, "prod", "job")["spec"] == {"entrypoint": "x", "suspend": True}
    jobs.cancel(cluster, "prod", "job", delete=True)
    assert cluster.list(RAY_JOBS, "prod") == []
