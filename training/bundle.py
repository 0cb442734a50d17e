"""A bundle: the atomic unit of release. A folder, local or behind any fsspec URL, that holds

    manifest.json            what it is, what it was made from, how good it is, sha256 of every other file
    schema.json              the features it reads, in the models' order
    items.parquet            the catalogue: ids and properties
    <component>.safetensors  arrays of one component, its settings in the file's header; never pickle
    <component>.onnx         its network, where it has one
    MODEL_CARD.md            for people (Mitchell et al. 2019)

A reader refuses a bundle whose checksums or schema fingerprint do not match, before anything is swapped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import save_file

from features.schema import FeatureSchema, SchemaError
from training.catalogue import Catalogue
from training.manifest import CATALOGUE, FILE_NAME, POINTER, sha256, write_atomically
from training.manifest import BundleError as BundleError  # re-exported: a bundle's readers need one module
from training.manifest import Manifest as Manifest
from training.manifest import latest as latest
from training.mapped import mapped
from training.registry import lacking
from training.spec import Declaration

SCHEMA, ITEMS, CARD = "schema.json", "items.parquet", "MODEL_CARD.md"
FEATURES, DELISTED = "features", "delisted"
"""Arrays of the catalogue's file; the second only where an item is."""

ARRAYS, NETWORK = ".safetensors", ".onnx"
"""Ends the names of a component's files."""

LEFTOVER = ".partial-"
"""Begins the names of folders that are not bundles yet, or no longer."""


@dataclass(frozen=True, slots=True)
class Component:
    """What a model is on disk.

    Attributes:
        arrays: of a bundle that was read, read-only: they lie in its files.
        settings: as JSON has them.
        onnx: the model's network, exported; None where it has none.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    onnx: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Bundle:
    manifest: Manifest
    schema: FeatureSchema
    catalogue: Catalogue
    components: Mapping[str, Component]
    declaration: Declaration

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
    declaration: Declaration,
    model_card: str,
    manifest: Manifest,
) -> Path:
    """Writes `root/<version>` whole or not at all, then points `root/LATEST` at it.

    `manifest` carries what the caller knows; version, fingerprint, checksums and what is declared are filled
    in here.

    Raises:
        ValueError: the declaration is of other components.
    """
    if declaration.components.keys() != components.keys():
        raise ValueError(f"declared are {sorted(declaration.components)}, given {sorted(components)}")
    root.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(root)
    partial = Path(tempfile.mkdtemp(prefix=LEFTOVER, dir=root))
    try:
        (partial / SCHEMA).write_text(schema.to_json(), encoding="utf-8")
        pq.write_table(catalogue.table, partial / ITEMS)
        (partial / CARD).write_text(model_card, encoding="utf-8")
        arrays: dict[str, NDArray[Any]] = {FEATURES: catalogue.features}
        if len(catalogue.delisted):
            arrays[DELISTED] = catalogue.delisted
        save_file(arrays, partial / f"{CATALOGUE}{ARRAYS}")
        for name, component in components.items():
            _save_component(partial / f"{name}{ARRAYS}", component)
        files = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        manifest = replace(manifest, declared=_declared(declaration, files))
        version = hashlib.sha256(_contents(files, manifest).encode()).hexdigest()[:12]
        manifest = replace(manifest, version=version, schema_fingerprint=schema.fingerprint(), files=files)
        write_atomically(partial / FILE_NAME, manifest.to_json())
        partial.chmod(0o755)  # mkdtemp and safetensors make what their owner alone can read
        for path in partial.iterdir():
            path.chmod(0o644)
        target = root / version
        if target.exists():  # the same contents, or altered since: either way this one is whole
            target.rename(root / f"{LEFTOVER}{version}")
        partial.rename(target)
        _remove_leftovers(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    write_atomically(root / POINTER, version)
    return target


def declared(url: str) -> tuple[Manifest, Declaration]:
    """What a bundle says of itself, without reading its other files.

    Raises:
        BundleError: there is none, or it declares nothing usable.
    """
    manifest = read_manifest(url)
    return manifest, _declaration(manifest)


def sizes(url: str, manifest: Manifest) -> dict[str, int]:
    """File → bytes. Raises OSError where one cannot be looked at."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return {name: int(filesystem.size(f"{path.rstrip('/')}/{name}")) for name in manifest.files}


def _declared(declaration: Declaration, files: Collection[str]) -> dict[str, Any]:
    """As JSON, with the files of each component."""
    components = {
        name: spec.model_copy(
            update={"files": tuple(f"{name}{end}" for end in (ARRAYS, NETWORK) if f"{name}{end}" in files)}
        )
        for name, spec in declaration.components.items()
    }
    whole = declaration.model_copy(update={"components": components})
    return whole.model_dump(mode="json", exclude_defaults=True)


def _declaration(manifest: Manifest) -> Declaration:
    """Raises BundleError where the manifest declares nothing, or something incomplete."""
    try:
        declaration = Declaration.model_validate(manifest.declared)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "declared"
        raise BundleError(f"bundle {manifest.version}: {where}: {first['msg']}; train again") from error
    for name, spec in declaration.components.items():
        if lacking := sorted(set(spec.files) - set(manifest.files)):
            raise BundleError(
                f"bundle {manifest.version}: component {name} lacks {', '.join(lacking)}; train again"
            )
    return declaration


def _contents(files: Mapping[str, str], manifest: Manifest) -> str:
    """What a bundle's version is the hash of: all that decides its answers."""
    decided = {"feedback": asdict(manifest.feedback), "declared": manifest.declared}
    return json.dumps({"files": files, **decided}, sort_keys=True)


def write_metrics(directory: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Puts the evaluation into the manifest. One rename, so a reader sees the old or the new one."""
    manifest = replace(read_manifest(str(directory)), metrics=metrics)
    write_atomically(directory / FILE_NAME, manifest.to_json())


def read_manifest(url: str) -> Manifest:
    """The manifest alone, without checking the other files."""
    try:
        with fsspec.open(f"{url.rstrip('/')}/{FILE_NAME}", "rb") as file:
            text = file.read().decode("utf-8")
    except FileNotFoundError:
        raise BundleError(f"no bundle at {url} ({FILE_NAME} is missing); run `marquee train` first") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{url}/{FILE_NAME} cannot be read ({error}); train or copy it again") from error
    return Manifest.from_json(text, url)


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
    declaration = _declaration(manifest)
    if missing := lacking(declaration):
        raise BundleError(f"bundle {manifest.version}: {missing}; install it, or train again without it")
    with _local(url) as directory:
        manifest.check_files(directory)
        try:
            schema = FeatureSchema.from_json((directory / SCHEMA).read_text(encoding="utf-8"))
        except (SchemaError, OSError, ValueError) as error:
            raise BundleError(f"{url}/{SCHEMA} cannot be read ({error})") from error
        if schema.fingerprint() != manifest.schema_fingerprint:
            raise BundleError(f"{url}/{SCHEMA} does not have the manifest's fingerprint; train again")
        loaded = {
            name.removesuffix(ARRAYS): _load_component(directory / name, _network(manifest, directory, name))
            for name in manifest.files
            if name.endswith(ARRAYS)
        }
        catalogue = _load_catalogue(directory, loaded.pop(CATALOGUE, None))
    return Bundle(manifest, schema, catalogue, loaded, declaration)


def _save_component(path: Path, component: Component) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in component.arrays.items()}
    save_file(arrays, path, metadata={"settings": json.dumps(component.settings, sort_keys=True)})
    if component.onnx is not None:
        path.with_suffix(NETWORK).write_bytes(component.onnx)


def _network(manifest: Manifest, directory: Path, arrays: str) -> Path | None:
    """Only where the manifest has checked it."""
    name = arrays.removesuffix(ARRAYS) + NETWORK
    return directory / name if name in manifest.files else None


def _load_component(path: Path, network: Path | None = None) -> Component:
    try:
        arrays, metadata = mapped(path)
        settings = json.loads(metadata.get("settings", "{}"))
        return Component(settings, arrays, network.read_bytes() if network else None)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BundleError(f"{path.name} cannot be read ({error}); train again") from error


def _load_catalogue(directory: Path, encoded: Component | None) -> Catalogue:
    try:
        table = pq.read_table(directory / ITEMS)
    except (pa.ArrowInvalid, OSError) as error:
        raise BundleError(f"{ITEMS} cannot be read ({error}); train again") from error
    features = None if encoded is None else encoded.arrays.get(FEATURES)
    if encoded is None or features is None or len(features) != table.num_rows:
        raise BundleError(f"the bundle's item features do not match {ITEMS}; train again")
    delisted = np.asarray(encoded.arrays.get(DELISTED, ()), np.int32)
    if len(delisted) and not 0 <= delisted.min() <= delisted.max() < table.num_rows:
        raise BundleError(f"the bundle's delisted items are not rows of {ITEMS}; train again")
    return Catalogue(table, np.asarray(features, np.float32), delisted)


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


def _remove_leftovers(root: Path) -> None:
    """Folders that a killed run left half-written."""
    for leftover in root.glob(f"{LEFTOVER}*"):
        shutil.rmtree(leftover, ignore_errors=True)
