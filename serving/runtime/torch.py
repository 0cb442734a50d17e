"""PyTorch: networks on a GPU, each size of a network's signature captured as one CUDA graph at loading.

A call is padded to the next size, so that a launch costs one graph instead of dozens of kernels
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). On a CPU, for tests, a module runs as is.
Does not belong here: exact search; which thread computes (a network is called by one at a time, others wait).
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from serving.runtime.protocol import RuntimeUnavailable
from serving.runtime_options import TorchOptions
from training.bundle import Component
from training.models.arrays import Float32
from training.models.eager import EagerNetwork, outputs_of, tensor_of
from training.models.network import BATCH, Arrays, Network, Signature, TensorSpec

WARM_UPS = 3
"""Runs before a capture, in which libraries allocate what they need."""


class TorchRuntime:
    def __init__(self, options: TorchOptions) -> None:
        """Raises RuntimeUnavailable where the device is not there."""
        self._device = torch.device(options.device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailable("runtime torch is configured for CUDA, and PyTorch finds no GPU here")
        self._dtype: torch.dtype = getattr(torch, options.dtype)
        self._graphs = options.graphs and self._device.type == "cuda"

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        """As `protocol.Runtime.network`; the weights are the component's safetensors."""
        loaded: nn.Module = importlib.import_module(module).load(component)
        signature = Signature.from_json(component.settings["network"])
        if self._device.type == "cpu" and self._dtype == torch.float32:
            return EagerNetwork(loaded, signature)
        return PaddedNetwork(loaded, signature, self._device, self._dtype, graphs=self._graphs)

    def close(self) -> None:
        """Nothing is held: a network's memory goes with it."""


@dataclass(frozen=True, slots=True)
class _Size:
    """A network prepared for one size: where its inputs are put, and what computes them."""

    staging: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    found: tuple[Tensor, ...]
    graph: torch.cuda.CUDAGraph | None


class PaddedNetwork:
    """A module on a device, called with inputs padded to the sizes of its signature; larger batches are
    computed in parts. One call at a time: they share buffers."""

    def __init__(
        self,
        module: nn.Module,
        signature: Signature,
        device: torch.device,
        dtype: torch.dtype,
        *,
        graphs: bool,
    ) -> None:
        """Args:
        dtype: of matrix products (autocast); weights, inputs, sums and outputs are float32.
        graphs: captures every size now; otherwise kernels are launched one by one.
        """
        self._module = module.eval().to(device)
        self._signature, self._device, self._dtype = signature, device, dtype
        self._on_device = torch.cuda.device(device if device.type == "cuda" else -1)
        self._axes = tuple(signature.sizes)
        self._lock = threading.Lock()
        with self._on_device:
            self._sizes = {size: self._prepare(size, graphs) for size in product(*signature.sizes.values())}

    @property
    def signature(self) -> Signature:
        return self._signature

    @torch.inference_mode()
    def __call__(self, inputs: Arrays) -> dict[str, Float32]:
        lengths = self._signature.check(inputs)
        most, batch = self._signature.sizes[BATCH][-1], lengths[BATCH]
        with self._lock, self._on_device:
            parts = [
                self._compute({name: array[start : start + most] for name, array in inputs.items()}, lengths)
                for start in range(0, max(batch, 1), most)
            ]
        outputs = zip(self._signature.outputs, zip(*parts, strict=True), strict=True)
        return {spec.name: np.concatenate(arrays) for spec, arrays in outputs}

    def _compute(self, inputs: Arrays, lengths: dict[str, int]) -> list[Float32]:
        """The outputs of at most the largest batch."""
        b = len(next(iter(inputs.values())))
        lengths = {**lengths, BATCH: b}
        sizes = self._signature.sizes
        size = self._sizes[tuple(_fitting(sizes[axis], lengths[axis]) for axis in self._axes)]
        for spec, staging in zip(self._signature.inputs, size.staging, strict=True):
            array = inputs[spec.name]
            staging.zero_()
            staging[tuple(slice(n) for n in array.shape)] = tensor_of(array)
        for given, staging in zip(size.given, size.staging, strict=True):
            given.copy_(staging, non_blocking=True)
        if size.graph is not None:
            size.graph.replay()
            found = size.found
        else:
            found = self._run(size.given)
        return [tensor[:b].float().cpu().numpy() for tensor in found]

    @torch.inference_mode()
    def _prepare(self, lengths: tuple[int, ...], graphs: bool) -> _Size:
        size = dict(zip(self._axes, lengths, strict=True))
        staging = tuple(self._staging(spec, size) for spec in self._signature.inputs)
        given = tuple(torch.zeros_like(each, device=self._device) for each in staging)
        if not graphs:
            return _Size(staging, given, (), None)
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch has no types for it
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._run(given)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # other networks go on computing while this bundle is loaded
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = self._run(given)
        return _Size(staging, given, found, graph)

    def _run(self, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        half = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype if half else None, half, cache_enabled=False):
            return outputs_of(self._module(*given))

    def _staging(self, spec: TensorSpec, size: dict[str, int]) -> Tensor:
        """Host memory that the device reads directly."""
        shape = [size[axis] if isinstance(axis, str) else axis for axis in (BATCH, *spec.axes)]
        dtype = getattr(torch, spec.dtype)
        return torch.zeros(shape, dtype=dtype, pin_memory=self._device.type == "cuda")


def _fitting(sizes: tuple[int, ...], length: int) -> int:
    """The smallest size that holds it."""
    return next(size for size in sizes if size >= length)
