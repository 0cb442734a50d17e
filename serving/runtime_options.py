"""What runtimes can be told. Pydantic models, so that a `ServeConfig` can hold them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeName(StrEnum):
    """Where networks are computed."""

    ONNX = "onnx"
    TORCH = "torch"
    TRITON = "triton"


class OnnxOptions(_Model):
    """ONNX Runtime on the CPU."""

    threads: PositiveInt = Field(
        1, description="threads of one call; more replicas use more cores without waiting for each other"
    )


class TorchOptions(_Model):
    """PyTorch, for GPUs."""

    device: str = Field("cuda", description="of PyTorch: cuda, cuda:1, or cpu, which is for tests")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of matrix products; bfloat16 runs on tensor cores and keeps two to three digits, "
        "float32 equals the other runtimes within 1e-3",
    )
    graphs: bool = Field(
        True,
        description="whether each size of a network's signature is captured as one CUDA graph at loading",
    )


class TritonOptions(_Model):
    """A Triton Inference Server that serves what `marquee bundle export-triton` wrote."""

    address: str = Field("localhost:8001", description="host:port of its gRPC endpoint")
    deadline_ms: PositiveFloat = Field(
        50, description="ms for one call; below the stages' budgets, so that the fallback has its turn"
    )
    ready_s: PositiveFloat = Field(
        10, description="s that a server has to load a bundle's models before they count as missing"
    )
    retry_s: PositiveFloat = Field(
        1, description="s after a failed call in which the fallback computes at once"
    )
    fallback: Literal["onnx", "torch", "none"] = Field(
        "onnx", description="what computes where Triton does not; none loses the stage instead"
    )


class RuntimeOptions(_Model):
    """Options of every runtime; those of one that is not configured are not read."""

    onnx: OnnxOptions = OnnxOptions()
    torch: TorchOptions = TorchOptions()
    triton: TritonOptions = TritonOptions()
