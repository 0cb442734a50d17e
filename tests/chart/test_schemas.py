"""Every object is one that an API server takes: Kubernetes' own kinds of two versions, and the CRDs'."""

import copy
from pathlib import Path

import pytest

from tests.chart.rendering import Object
from tests.chart.schemas import VERSIONS, crd_folder, custom, custom_faults, faults

DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "d"}]},
        },
    },
}


@pytest.fixture(scope="module")
def crds() -> Path:
    folder = crd_folder()
    if folder is None:
        pytest.skip("no CRDs here: MARQUEE_CRDS may name a folder with them")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_kinds_fit_their_schema(objects: list[Object], version: str) -> None:
    checked = [each for each in objects if not custom(each)]
    assert len(checked) > 5
    assert [fault for each in checked for fault in faults(each, version)] == []


def test_custom_kinds_fit_their_crd(objects: list[Object], crds: Path) -> None:
    checked = [each for each in objects if custom(each)]
    assert "RayService" in [each["kind"] for each in checked]
    assert [fault for each in checked for fault in custom_faults(each, crds)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_check_sees_an_unknown_field_and_a_wrong_type(version: str) -> None:
    assert faults(DEPLOYMENT, version) == []
    unknown, wrong = copy.deepcopy(DEPLOYMENT), copy.deepcopy(DEPLOYMENT)
    unknown["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    wrong["spec"]["replicas"] = "1"
    assert "imagePolicy" in faults(unknown, version)[0]
    assert "replicas" in faults(wrong, version)[0]


def test_the_check_of_crds_sees_them_too(objects: list[Object], crds: Path) -> None:
    [service] = [copy.deepcopy(each) for each in objects if each["kind"] == "RayService"]
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0][
        "imagePolicy"
    ] = "a"
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicas"] = "two"
    told = "\n".join(custom_faults(service, crds))
    assert "imagePolicy" in told
    assert "minReplicas" in told
