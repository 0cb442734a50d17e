"""ONNX Runtime on the CPU: the runtime of networks where nothing else is configured."""

from __future__ import annotations

import onnxruntime

from serving.runtime.protocol import RuntimeUnavailable
from serving.runtime_options import OnnxOptions
from training.bundle import Component
from training.models.arrays import Float32
from training.models.network import Arrays, Network, Signature

ERRORS = 3
"""ONNX Runtime's log level for errors: what it warns of is its own optimiser."""


class OnnxRuntime:
    def __init__(self, options: OnnxOptions) -> None:
        self._options = options

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        """As `protocol.Runtime.network`; needs the component's ONNX."""
        if component.onnx is None:
            raise RuntimeUnavailable(f"component {name!r} of bundle {version} has no ONNX model; train again")
        return OnnxNetwork(
            component.onnx, Signature.from_json(component.settings["network"]), self._options.threads
        )

    def close(self) -> None:
        """Nothing is held."""


class OnnxNetwork:
    """A serialised ONNX model; sessions may be called by several threads."""

    def __init__(self, model: bytes, signature: Signature, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS
        self._signature = signature
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @property
    def signature(self) -> Signature:
        return self._signature

    def __call__(self, inputs: Arrays) -> dict[str, Float32]:
        self._signature.check(inputs)
        names = [spec.name for spec in self._signature.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
