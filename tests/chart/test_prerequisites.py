"""What a cluster needs first, as far as it can be read and not run: files parse, commands name real ones."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, REQUIRED, ROOT, Chart

FOLDER = ROOT / "k8s" / "prerequisites"
README = (FOLDER / "README.md").read_text()
BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```", README, flags=re.M | re.S)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_files_parse_and_are_named_by_a_command(file: Path) -> None:
    assert yaml.safe_load(file.read_text())
    assert f"k8s/prerequisites/{file.name}" in "".join(BLOCKS)


def test_commands_name_files_that_exist() -> None:
    named = re.findall(r"(?:k8s|charts)/[\w./-]+", "".join(BLOCKS))
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_commands_are_shell(block: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_cluster_is_one_that_the_chart_is_for(chart: Chart) -> None:
    nodes = yaml.safe_load((FOLDER / "kind.yaml").read_text())["nodes"]
    [version] = {re.search(r":v(\d+\.\d+\.\d+)$", node["image"])[1] for node in nodes}
    done = chart.call("template", "marquee", str(CHART), *REQUIRED, f"--kube-version={version}")
    assert done.returncode == 0, done.stderr


def test_an_older_cluster_is_refused(chart: Chart) -> None:
    assert "requires kubeVersion" in chart.refusal(*REQUIRED, "--kube-version=1.29.0")


def test_the_image_that_is_loaded_is_the_one_that_the_chart_pulls(chart: Chart) -> None:
    pulled = re.search(r"image: (\S*marquee/marquee\S+)", chart.text(*REQUIRED))
    assert pulled is not None
    loaded = set(re.findall(r"marquee/marquee:[\w.]+", "".join(BLOCKS)))
    assert loaded == {pulled[1]}


def test_namespaces_and_names_are_those_of_the_network_policies() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    monitoring = values["networkPolicy"]["monitoringFrom"][0]["namespaceSelector"]["matchLabels"]
    operator = values["networkPolicy"]["operatorFrom"][0]["podSelector"]["matchLabels"]
    assert monitoring == {"kubernetes.io/metadata.name": "monitoring"}
    assert "--namespace monitoring" in README
    assert operator == {"app.kubernetes.io/name": "kuberay-operator"}
    assert "helm upgrade --install kuberay-operator " in README


def test_the_operator_has_what_an_incremental_upgrade_needs() -> None:
    gates = yaml.safe_load((FOLDER / "kuberay-operator-values.yaml").read_text())["featureGates"]
    assert {"name": "RayServiceIncrementalUpgrade", "enabled": True} in gates


def test_secrets_that_environments_name_are_made_in_the_readme() -> None:
    """The ones of the development environment, which the page installs."""
    dev = yaml.safe_load((ROOT / "k8s" / "environments" / "dev.yaml").read_text())
    assert f"create secret generic {dev['redis']['existingSecret']} " in README
