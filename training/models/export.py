"""From a torch module to ONNX: the form in which every runtime but torch computes a network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from training.models.network import BATCH, DTYPES, Signature, TensorSpec

OPSET = 20
"""Of ONNX (ONNX Runtime from 1.17 on, Triton from 24.03 on): the first with GELU as one operator."""


def export(module: nn.Module, signature: Signature) -> bytes:
    """The module as a serialised ONNX model, every named axis of its signature dynamic.

    Equal modules give equal bytes: what the exporter notes of where and from which code it ran is left out.
    """
    axes = {
        name: torch.export.Dim(name) if name == BATCH else torch.export.Dim(name, max=sizes[-1])
        for name, sizes in signature.sizes.items()
    }
    shapes = tuple(
        {place: axes[axis] for place, axis in enumerate((BATCH, *spec.axes)) if isinstance(axis, str)}
        for spec in signature.inputs
    )
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(_example(signature, spec) for spec in signature.inputs),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # with dynamo it never is
    bare: bytes = _bare(program.model_proto).SerializeToString(deterministic=True)
    return bare


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own passes, and on packages that it could export as well."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    parts: list[Any] = [model, model.graph]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    graph = model.graph
    parts += [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _example(signature: Signature, spec: TensorSpec) -> Tensor:
    """An input of lengths that the exporter does not take for constants, as it does 1."""
    lengths = {axis: min(5, sizes[-1]) for axis, sizes in signature.sizes.items()} | {BATCH: 3}
    shape = [lengths[axis] if isinstance(axis, str) else axis for axis in (BATCH, *spec.axes)]
    return torch.from_numpy(np.ones(shape, DTYPES[spec.dtype]))
