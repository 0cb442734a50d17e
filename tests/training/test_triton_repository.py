"""Model repositories: what is in them, and that bundles lie side by side. A real server reads them in
`tests/serving/runtime`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.bundle import Bundle, Component, read_bundle
from training.manifest import BundleError
from training.triton_repository import CONFIG, MODEL, export, model_version


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return read_bundle(str(bundle_dir))


def again(bundle: Bundle, version: str, **components: Component) -> Bundle:
    manifest = replace(bundle.manifest, version=version)
    return replace(bundle, manifest=manifest, components={**bundle.components, **components})


def test_each_network_is_a_model_and_each_bundle_a_version_of_it(bundle: Bundle, tmp_path: Path) -> None:
    assert export(bundle, tmp_path) == ("two_tower",)
    assert export(again(bundle, "00000000000a"), tmp_path) == ("two_tower",)
    assert export(bundle, tmp_path) == ("two_tower",)  # nothing is added
    folder = tmp_path / "two_tower"
    number = model_version(bundle.manifest.version)
    assert {path.name for path in folder.iterdir()} == {CONFIG, number, "10"}
    assert (folder / number / MODEL).read_bytes() == bundle.component("two_tower").onnx
    config = (folder / CONFIG).read_text()
    assert 'key: "bundle:10", value { string_value: "00000000000a" }' in config
    assert f'key: "bundle:{number}", value {{ string_value: "{bundle.manifest.version}" }}' in config
    assert 'input { name: "events", data_type: TYPE_FP32, dims: [ -1, 64 ] }' in config


def test_a_network_of_another_signature_is_refused_and_leaves_the_repository_as_it_was(
    bundle: Bundle, tmp_path: Path
) -> None:
    export(bundle, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    component = bundle.component("two_tower")
    network = {**component.settings["network"], "sizes": {"batch": [1, 2], "length": [50]}}
    other = replace(component, settings={**component.settings, "network": network})
    with pytest.raises(BundleError, match="another signature"):
        export(again(bundle, "00000000000b", two_tower=other), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_bundle_without_a_network_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no network"):
        export(replace(bundle, components={}), tmp_path)
