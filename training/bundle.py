"""A bundle: the atomic unit of release. A folder, local or behind any fsspec URL, that holds

    manifest.json            what it is, what it was made from, how good it is, sha256 of every other file
    schema.json              the features it reads, in the models' order
    items.parquet            the catalogue: ids and properties
    <component>.safetensors  arrays of one component, its settings in the file's header; never pickle
    MODEL_CARD.md            for people (Mitchell et al. 2019)

A reader refuses a bundle whose checksums or schema fingerprint do not match, before anything is swapped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from features.schema import FeatureSchema
from training.catalogue import Catalogue

FORMAT = 1
"""Raised when a reader of the previous format could misread a bundle."""

MANIFEST, SCHEMA, ITEMS, CARD = "manifest.json", "schema.json", "items.parquet", "MODEL_CARD.md"
POINTER = "LATEST"


class BundleError(Exception):
    """The bundle is missing, half-written, altered or does not fit; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Component:
    """What a model is on disk: its settings (JSON) and its arrays."""

    settings: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Attributes:
    version: 12 hex digits over the checksums, so that equal contents have equal versions.
    created: UTC, ISO 8601.
    data_window: first and last event the models saw, UTC, ISO 8601.
    parent: version of the bundle this one was trained from, if any.
    files: file name → sha256.
    metrics: what `marquee evaluate` measured, model → metric → value; empty before.
    """

    name: str
    version: str
    created: str
    data_window: tuple[str, str]
    data_licence: str
    schema_fingerprint: str
    parent: str | None
    seed: int
    files: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Bundle:
    manifest: Manifest
    schema: FeatureSchema
    catalogue: Catalogue
    components: Mapping[str, Component]

    def component(self, name: str) -> Component:
        """Raises BundleError where the bundle holds no such component."""
        try:
            return self.components[name]
        except KeyError:
            held = ", ".join(sorted(self.components)) or "none"
            raise BundleError(
                f"the bundle holds no component {name!r} (it holds: {held}); train again"
            ) from None


def write_bundle(
    root: Path,
    *,
    schema: FeatureSchema,
    catalogue: Catalogue,
    components: Mapping[str, Component],
    model_card: str,
    manifest: Manifest,
) -> Path:
    """Writes `root/<version>` whole or not at all, then points `root/LATEST` at it.

    `manifest` carries what the caller knows; version, fingerprint and checksums are filled in here.
    """
    root.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(root)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=root))
    try:
        (partial / SCHEMA).write_text(schema.to_json(), encoding="utf-8")
        pq.write_table(catalogue.table, partial / ITEMS)
        (partial / CARD).write_text(model_card, encoding="utf-8")
        save_file({"features": catalogue.features}, partial / "catalogue.safetensors")
        for name, component in components.items():
            _save_component(partial / f"{name}.safetensors", component)
        files = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        version = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
        manifest = replace(manifest, version=version, schema_fingerprint=schema.fingerprint(), files=files)
        _write_atomically(partial / MANIFEST, _dump(manifest))
        partial.chmod(0o755)
        target = root / version
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _write_atomically(root / POINTER, version)
    return target


def write_metrics(directory: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Puts the evaluation into the manifest. One rename, so a reader sees the old or the new one."""
    manifest = replace(read_manifest(str(directory)), metrics=metrics)
    _write_atomically(directory / MANIFEST, _dump(manifest))


def latest(root: Path) -> Path:
    """The folder of the bundle written last.

    Raises:
        BundleError: there is none.
    """
    pointer = root / POINTER
    if not pointer.is_file():
        raise BundleError(f"no bundle in {root}; run `marquee train` first")
    return root / pointer.read_text(encoding="utf-8").strip()


def read_manifest(url: str) -> Manifest:
    """The manifest alone, without checking the other files."""
    try:
        with fsspec.open(f"{url.rstrip('/')}/{MANIFEST}", "rb") as file:
            raw = json.load(file)
        found = raw.get("format")
        if found != FORMAT:
            raise BundleError(f"{url} has bundle format {found}, this version reads {FORMAT}; train again")
        return Manifest(**{**raw, "data_window": tuple(raw["data_window"])})
    except FileNotFoundError:
        raise BundleError(f"no bundle at {url} ({MANIFEST} is missing); run `marquee train` first") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{url}/{MANIFEST} cannot be read ({error}); train again") from error


def read_bundle(url: str, *, fingerprint: str | None = None) -> Bundle:
    """Reads and checks a bundle.

    Args:
        url: a path or an fsspec URL of the bundle's folder.
        fingerprint: of the schema the online features were written with; None where there are none.

    Raises:
        BundleError: anything is missing, altered or does not fit.
    """
    manifest = read_manifest(url)
    if fingerprint is not None and manifest.schema_fingerprint != fingerprint:
        raise BundleError(
            f"bundle {manifest.version} was trained on feature schema {manifest.schema_fingerprint[:12]}, "
            f"but the online features follow {fingerprint[:12]}; run `marquee features` and `marquee train`"
        )
    with _local(url) as directory:
        _check_files(directory, manifest)
        schema = FeatureSchema.from_json((directory / SCHEMA).read_text(encoding="utf-8"))
        if schema.fingerprint() != manifest.schema_fingerprint:
            raise BundleError(f"{url}/{SCHEMA} does not have the manifest's fingerprint; train again")
        loaded = {
            name.removesuffix(".safetensors"): _load_component(directory / name)
            for name in manifest.files
            if name.endswith(".safetensors")
        }
        catalogue = Catalogue(
            pq.read_table(directory / ITEMS), np.asarray(loaded.pop("catalogue").arrays["features"])
        )
    return Bundle(manifest, schema, catalogue, loaded)


def _save_component(path: Path, component: Component) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in component.arrays.items()}
    save_file(arrays, path, metadata={"settings": json.dumps(component.settings, sort_keys=True)})


def _load_component(path: Path) -> Component:
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return Component(json.loads((file.metadata() or {}).get("settings", "{}")), arrays)
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read ({error}); train again") from error


def _check_files(directory: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(f"bundle {manifest.version} lacks {name}; train or copy it again")
        if _sha256(path) != expected:
            raise BundleError(
                f"bundle {manifest.version}: {name} was altered (sha256 differs); train or copy it again"
            )


@contextmanager
def _local(url: str) -> Iterator[Path]:
    """The bundle's folder on this machine: itself, or a copy that goes when it has been read."""
    filesystem, path = fsspec.core.url_to_fs(url)
    if "file" in filesystem.protocol:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="marquee-bundle-") as scratch:
        filesystem.get(path.rstrip("/") + "/", scratch + "/", recursive=True)
        yield Path(scratch)


def _dump(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _remove_leftovers(root: Path) -> None:
    """Folders that a killed run left half-written."""
    for leftover in root.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
