"""For a Triton server whose only backend is Python: computes the version's `model.onnx` on ONNX Runtime.

Triton loads this file as a model's `model.py`; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: Mapping[str, str]) -> None:
        model = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        names = [output.name for output in self.session.get_outputs()]
        found = self.session.run(names, given)
        return pb_utils.InferenceResponse(list(map(pb_utils.Tensor, names, found)))
