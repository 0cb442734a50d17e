"""Where the arithmetic of networks runs: `factory.runtime(name, options)` makes a runtime.

`onnx`, `torch` and `triton` are imported when they are configured: a replica that computes on ONNX Runtime
holds neither torch nor tritonclient.
"""
