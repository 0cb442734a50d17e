"""A bundle's networks as a model repository that a stock Triton Inference Server loads.

    <component>/config.pbtxt         inputs, outputs, batching
    <component>/<version>/model.onnx

A version's number is the bundle's version read as hexadecimal: bundles lie side by side, a canary's networks
are served beside production's. Format: docs.nvidia.com, Triton, "Model Repository" and "Model Configuration".
Does not belong here: calling the server (`serving.runtime.triton`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from training.bundle import Bundle, Component
from training.manifest import BundleError, write_atomically
from training.models.network import BATCH, Signature, TensorSpec

TYPES = {"float32": "FP32", "int64": "INT64"}
"""What Triton's protocol calls a dtype; TYPE_FP32 in a configuration."""

QUEUE_DELAY_US = 500
"""Microseconds that Triton keeps a request for others to join it: callers have made batches already."""

CONFIG, MODEL = "config.pbtxt", "model.onnx"


def model_version(bundle: str) -> str:
    """The Triton version of a bundle's version (12 hex digits: an int64)."""
    return str(int(bundle, 16))


def export(bundle: Bundle, repository: Path) -> tuple[str, ...]:
    """Adds the bundle's networks to the repository, which may hold other bundles' and be read by a server.

    Returns:
        The names of the models, those of the components.

    Raises:
        BundleError: the bundle has no network, or one of another signature than the repository's model of
            that name, whose configuration both would share.
    """
    networks = {name: each for name, each in sorted(bundle.components.items()) if each.onnx is not None}
    if not networks:
        raise BundleError(f"bundle {bundle.manifest.version} holds no network; train again")
    for name, component in networks.items():
        _check(repository / name, name, _body(name, component))
    for name, component in networks.items():
        _write(repository / name, name, component, bundle.manifest.version)
    return tuple(networks)


def _check(folder: Path, name: str, body: str) -> None:
    if (folder / CONFIG).exists() and not (folder / CONFIG).read_text(encoding="utf-8").startswith(body):
        raise BundleError(
            f"{folder} holds a model {name!r} of another signature: export into another repository, or "
            "remove it where no bundle in traffic uses it"
        )


def _write(folder: Path, name: str, component: Component, bundle: str) -> None:
    """The version comes whole or not at all; the configuration, which a server reads first, before it."""
    assert component.onnx is not None
    folder.mkdir(parents=True, exist_ok=True)
    versions = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    versions.add(int(model_version(bundle)))
    write_atomically(folder / CONFIG, _body(name, component) + _parameters(versions))
    target = folder / model_version(bundle)
    if target.exists():
        return
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        made = Path(partial) / "version"
        made.mkdir()
        (made / MODEL).write_bytes(component.onnx)
        os.replace(made, target)


def _body(name: str, component: Component) -> str:
    """The configuration, the same for every bundle whose network has this signature."""
    signature = Signature.from_json(component.settings["network"])
    return "\n".join(
        (
            f"name: {json.dumps(name)}",
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {signature.sizes[BATCH][-1]}",
            *(_tensor("input", spec) for spec in signature.inputs),
            *(_tensor("output", spec) for spec in signature.outputs),
            f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}",
            "version_policy { all { } }",
            "",
        )
    )


def _tensor(side: str, spec: TensorSpec) -> str:
    """Of axes after the batch; one without others is a column, as Triton's configuration knows no scalar."""
    dims = ", ".join("-1" if isinstance(axis, str) else str(axis) for axis in spec.axes)
    reshape = "" if spec.axes else ", reshape { shape: [ ] }"
    return (
        f"{side} {{ name: {json.dumps(spec.name)}, data_type: TYPE_{TYPES[spec.dtype]}, "
        f"dims: [ {dims or '1'} ]{reshape} }}"
    )


def _parameters(versions: Iterable[int]) -> str:
    """Triton's version → the bundle's."""
    return "".join(
        f'parameters {{ key: "bundle:{version}", value {{ string_value: "{version:012x}" }} }}\n'
        for version in sorted(versions)
    )
