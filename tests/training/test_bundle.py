from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from features.schema import FeatureSchema
from training.bundle import (
    BundleError,
    Component,
    Manifest,
    latest,
    read_bundle,
    read_manifest,
    write_bundle,
    write_metrics,
)
from training.dataset import Dataset
from training.inputs import up_to_date
from training.spec import ComponentSpec, Declaration

MANIFEST = Manifest(
    name="test",
    version="",
    created="2026-01-01T00:00:00+00:00",
    data_window=("2020-01-01T00:00:00+00:00", "2021-01-01T00:00:00+00:00"),
    data_licence="free",
    schema_fingerprint="",
    parent=None,
    seed=0,
    files={},
    inputs="digest",
)
COMPONENT = Component({"half_life": 6.0, "names": ["a"]}, {"weights": np.eye(3, dtype=np.float32)[:, ::-1]})

DECLARATION = Declaration(components={"ease": ComponentSpec(kind="ease")}, pipelines={})

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, schema: FeatureSchema, dataset: Dataset) -> Write:
    def write(component: Component = COMPONENT, manifest: Manifest = MANIFEST) -> Path:
        return write_bundle(
            tmp_path,
            schema=schema,
            catalogue=dataset.catalogue,
            components={"ease": component},
            declaration=DECLARATION,
            model_card="# card",
            manifest=manifest,
        )

    return write


def test_what_was_written_is_read(
    write: Write, schema: FeatureSchema, dataset: Dataset, tmp_path: Path
) -> None:
    directory = write()
    bundle = read_bundle(str(directory), fingerprint=schema.fingerprint())
    assert latest(tmp_path) == directory
    assert bundle.manifest.version == directory.name
    assert bundle.schema == schema
    assert tuple(bundle.catalogue.ids) == dataset.events.item_ids
    np.testing.assert_array_equal(bundle.catalogue.features, dataset.catalogue.features)
    read = bundle.component("ease")
    assert read.settings == COMPONENT.settings
    np.testing.assert_array_equal(read.arrays["weights"], COMPONENT.arrays["weights"])
    with pytest.raises(BundleError, match=r"no component 'ranker' \(it holds: ease\)"):
        bundle.component("ranker")


def test_equal_contents_have_equal_versions_and_others_others(write: Write) -> None:
    first = write()
    write_metrics(first, {"marquee": {"ndcg@10": 0.1}})
    again = write(manifest=replace(MANIFEST, created="2027-01-01T00:00:00+00:00"))
    assert again == first
    assert read_manifest(str(again)).created.startswith("2027")
    other = write(Component({"half_life": 7.0}, COMPONENT.arrays))
    assert other != first
    assert first.is_dir()


def test_metrics_are_added_without_touching_the_version(write: Write) -> None:
    directory = write()
    write_metrics(directory, {"marquee": {"ndcg@10": 0.1}})
    assert read_bundle(str(directory)).manifest.metrics == {"marquee": {"ndcg@10": 0.1}}


def test_a_network_is_kept_beside_its_component_and_one_that_the_manifest_does_not_name_is_not_read(
    write: Write,
) -> None:
    directory = write(replace(COMPONENT, onnx=b"a network"))
    assert read_bundle(str(directory)).component("ease").onnx == b"a network"
    without = write()
    assert without.name != directory.name
    (without / "ease.onnx").write_bytes(b"put there by somebody")
    assert read_bundle(str(without)).component("ease").onnx is None


@pytest.mark.parametrize(
    "name",
    [
        "schema.json",
        "items.parquet",
        "catalogue.safetensors",
        "ease.safetensors",
        "ease.onnx",
        "MODEL_CARD.md",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "altered", "cut"])
def test_a_damaged_bundle_is_refused_and_not_taken_for_up_to_date(
    write: Write, tmp_path: Path, name: str, damage: str
) -> None:
    file = write(replace(COMPONENT, onnx=b"a network")) / name
    assert up_to_date(tmp_path, "digest")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        file.write_bytes(content[:middle] + (flipped + content[middle + 1 :] if damage == "altered" else b""))
    with pytest.raises(BundleError, match=name):
        read_bundle(str(file.parent))
    assert up_to_date(tmp_path, "digest") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 99}', "format 99"),
        ('{"format": 2}', "format 2, this version reads 4: run `marquee train`"),
        ('{"format": 3}', "format 3, this version reads 4: run `marquee train`"),
        ('{"format": 4}', "cannot be read"),
        (None, "is missing"),
    ],
)
def test_a_broken_manifest_is_refused_in_one_line(
    write: Write, tmp_path: Path, text: str | None, why: str
) -> None:
    manifest = write() / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(BundleError, match=why) as caught:
        read_bundle(str(manifest.parent))
    assert "\n" not in str(caught.value)
    assert up_to_date(tmp_path, "digest") is None


def test_a_manifest_cannot_name_files_elsewhere(write: Write) -> None:
    manifest = write() / "manifest.json"
    raw = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**raw, "files": {"../../secret": "0"}}))
    with pytest.raises(BundleError, match="outside"):
        read_manifest(str(manifest.parent))


def test_another_feature_schema_is_refused(write: Write) -> None:
    with pytest.raises(BundleError, match="run `marquee features` and `marquee train`"):
        read_bundle(str(write()), fingerprint="f" * 64)


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(write: Write, tmp_path: Path) -> None:
    old = write()
    with pytest.raises(TypeError):
        write(Component({"not json": object()}, {}))
    assert latest(tmp_path) == old
    read_bundle(str(old))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["LATEST", old.name])


def test_what_a_killed_write_left_goes_with_the_next(write: Write, tmp_path: Path) -> None:
    leftover = tmp_path / ".partial-killed"
    leftover.mkdir()
    (leftover / "ease.safetensors").write_bytes(b"half")
    write()
    assert not leftover.exists()


def test_a_bundle_is_read_from_any_filesystem(write: Write) -> None:
    directory = write()
    memory = fsspec.filesystem("memory")
    memory.put(str(directory), "/bundles/it", recursive=True)
    try:
        assert read_bundle("memory://bundles/it").manifest.version == directory.name
    finally:
        memory.rm("/bundles", recursive=True)


def test_no_bundle_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="run `marquee train` first"):
        latest(tmp_path)
