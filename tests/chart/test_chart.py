"""The chart as a whole: lint, the same bytes twice, named versions and images, a README that agrees."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.chart.pods import pods
from tests.chart.rendering import CHART, REQUIRED, ROOT, VALUES, Chart, Object, _template, label


def test_the_environments_and_five_examples_are_there() -> None:
    assert {label(path) for path in VALUES} >= {
        "environments/dev", "environments/staging", "environments/prod",
        "ci/cpu", "ci/gpu-production", "ci/external-redis", "ci/high-availability", "ci/air-gapped",
    }  # fmt: skip


def test_lint_is_content(chart: Chart, values: Path) -> None:
    done = chart.call("lint", "--strict", str(CHART), f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_render_is_the_same_bytes_each_time(chart: Chart, values: Path) -> None:
    """Else every `helm upgrade` and every sync of a GitOps tool would restart pods."""
    first = chart.text(values)
    _template.cache_clear()
    assert chart.text(values) == first


def test_objects_have_names_of_their_own(objects: list[Object]) -> None:
    names = [
        (each["apiVersion"], each["kind"], each["metadata"]["name"])
        for each in objects
        if "name" in each["metadata"]
    ]
    assert len(names) == len(set(names))


def test_everything_is_in_the_namespace_and_labelled(objects: list[Object]) -> None:
    for each in objects:
        assert each["metadata"]["namespace"] == "marquee", each["metadata"]
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "marquee", each["metadata"]


def test_versions_agree() -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["appVersion"] == project["version"]


def test_ray_in_the_values_is_the_ray_that_is_installed() -> None:
    version = yaml.safe_load((CHART / "values.yaml").read_text())["ray"]["version"]
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def images(objects: list[Object]) -> set[str]:
    return {
        container["image"]
        for each in objects
        for pod in pods(each)
        for _, container in pod.containers()
        if "image" in container
    }


def test_images_are_named_by_version_or_digest(objects: list[Object]) -> None:
    assert images(objects)
    for image in images(objects):
        assert re.search(r":v?\d[\w.-]*$|@sha256:[0-9a-f]{64}$", image), image


def test_one_registry_can_stand_for_all(chart: Chart, values: Path) -> None:
    found = images(chart.objects(values, "--set=global.imageRegistry=mirror:5000"))
    assert {image.split("/")[0] for image in found} == {"mirror:5000"}


def test_a_budget_for_disruptions_is_a_whole_number_below_its_pods(objects: list[Object]) -> None:
    """A percentage rounds up to all pods where there are few, and then no node can be drained."""
    [service] = [each for each in objects if each["kind"] == "RayService"]
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for each in objects:
        if each["kind"] == "PodDisruptionBudget":
            least = each["spec"]["minAvailable"]
            component = each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
            [group] = [group for group in groups if f"worker-{group['groupName']}" == component]
            assert type(least) is int
            assert 0 < least < group["minReplicas"]


@pytest.mark.parametrize("script", ["readme.py", "schema.py"])
def test_what_is_generated_is_up_to_date(script: str) -> None:
    """README.md from the comments of values.yaml, the schema of `config` from ServeConfig."""
    done = subprocess.run(
        [sys.executable, CHART / script, "--check"], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_of_a_long_release_still_fit(chart: Chart) -> None:
    """Kubernetes allows a Service 63 characters, KubeRay a RayService 47."""
    done = chart.call("template", "r" * 53, str(CHART), *REQUIRED)
    assert done.returncode == 0, done.stderr
    for found in re.findall(r"^  name: (\S+)", done.stdout, flags=re.M):
        assert len(found) <= 63, found
    [service] = re.findall(r"^kind: RayService\nmetadata:\n  name: (\S+)", done.stdout, flags=re.M)
    assert len(service) <= 47
