"""The additive ranker for Triton's Python backend: numpy alone, because it runs in Triton's environment, from
arrays that `triton_server.write_repository` puts beside it. The same sum as `AdditiveRanker.score`.

Triton loads this file as `model.py`; nothing here imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: Mapping[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        settings = json.loads((folder / "settings.json").read_text())
        with np.load(folder / "ranker.npz", allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["lengths"])[:-1]
            self.knots, self.tables = (np.split(arrays[name], ends) for name in ("knots", "tables"))
        self.bias = np.float32(settings["bias"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(pb_utils.get_input_tensor_by_name(each, "rows").as_numpy()) for each in requests]

    def _answer(self, rows: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        terms = np.empty((len(self.knots), len(rows)), np.float32)
        for f, (knots, table) in enumerate(zip(self.knots, self.tables, strict=True)):
            terms[f] = np.interp(rows[:, f], knots, table)
        scores = terms.T.sum(1) + self.bias
        return pb_utils.InferenceResponse([pb_utils.Tensor("scores", scores)])
