"""From a runtime's name to the runtime."""

from __future__ import annotations

from collections.abc import Callable

from serving.runtime.protocol import Runtime
from serving.runtime_options import RuntimeName, RuntimeOptions

OnFailure = Callable[[str, str], None]
"""Called with the component's name and the class of the error, once for each call that a runtime lost."""


def runtime(
    name: RuntimeName,
    options: RuntimeOptions,
    on_failure: OnFailure = lambda component, error: None,
    traceparent: Callable[[], str | None] = lambda: None,
) -> Runtime:
    """Imports the runtime's library.

    Args:
        on_failure: counts what a fallback computed or a stage lost.
        traceparent: W3C trace context of the calling thread, which a remote runtime passes on.
    """
    match name:
        case RuntimeName.ONNX:
            from serving.runtime.onnx import OnnxRuntime

            return OnnxRuntime(options.onnx)
        case RuntimeName.TORCH:
            from serving.runtime.torch import TorchRuntime

            return TorchRuntime(options.torch)
        case RuntimeName.TRITON:
            from serving.runtime.triton import TritonRuntime

            fallback = options.triton.fallback
            other = None if fallback == "none" else runtime(RuntimeName(fallback), options)
            return TritonRuntime(options.triton, other, on_failure, traceparent)
