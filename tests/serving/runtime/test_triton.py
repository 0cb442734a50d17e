"""The runtime `triton` when its server is slow, wrong, elsewhere or gone.

The server here speaks real gRPC and answers as a test says; a real Triton is in `test_runtimes`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.local.ports import free_block
from serving.runtime.protocol import RuntimeUnavailable
from serving.runtime.triton import TritonRuntime
from serving.runtime_options import TritonOptions
from training.bundle import Component
from training.models.network import Arrays, Network, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("rows", "float32", (2,)), TensorSpec("count", "int64", ())),
    (TensorSpec("sums", "float32", ()),),
    {"batch": (1, 4)},
)
COMPONENT = Component({"network": SIGNATURE.to_json()}, {})
VERSION = "00000000000f"


class Sums:
    """A network, and a runtime that makes it: sums of rows and counts."""

    signature = SIGNATURE

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        self.calls += 1
        return {"sums": (inputs["rows"].sum(1) + inputs["count"]).astype(np.float32)}

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        return self

    def close(self) -> None:
        """Nothing is held."""


def inputs(b: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    return {"rows": np.arange(2 * b, dtype=np.float32).reshape(b, 2), "count": np.arange(b)}


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated without types
    """Answers with `outputs(rows, count)`; holds what it was asked."""

    def __init__(self, outputs: Callable[[Any, Any], Any]) -> None:
        self.outputs, self.asked = outputs, list[tuple[str, str, int, dict[str, str]]]()
        self.ready = True

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        count = np.frombuffer(request.raw_input_contents[1], np.int64).reshape(request.inputs[1].shape)
        metadata = dict(context.invocation_metadata())
        self.asked.append((request.model_name, request.model_version, len(rows), metadata))
        found = self.outputs(rows, count)
        answer = service_pb2.ModelInferResponse()
        tensor = answer.outputs.add(name="sums", datatype="FP32")
        tensor.shape.extend(found.shape)
        answer.raw_output_contents.append(found.astype(np.float32).tobytes())
        return answer


def sums(rows: Any, count: Any) -> Any:
    assert count.shape == (len(rows), 1)
    return rows.sum(1, keepdims=True) + count


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """Its address."""
    with ThreadPoolExecutor(4) as threads:
        running = grpc.server(threads)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, running)
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            running.stop(0).wait()


@contextmanager
def made(
    address: str,
    fallback: Sums | None,
    failures: list[tuple[str, str]],
    trace: str | None = None,
    **options: Any,
) -> Iterator[Callable[[], Network]]:
    """Makes the network on the runtime."""
    given = TritonOptions(address=address, ready_s=0.2, **{"deadline_ms": 5_000, **options})
    runtime = TritonRuntime(given, fallback, lambda *what: failures.append(what), lambda: trace)
    try:
        yield lambda: runtime.network(COMPONENT, "sums", VERSION, "")
    finally:
        runtime.close()
        runtime.close()  # as often as one likes


def test_a_batch_goes_in_parts_to_the_bundles_version_with_the_callers_trace() -> None:
    server, failures = Server(sums), list[tuple[str, str]]()
    trace = f"00-{1:032x}-{2:016x}-01"
    with serving(server) as address, made(address, None, failures, trace) as make:
        found = make()(inputs(6))
    np.testing.assert_array_equal(found["sums"], Sums()(inputs(6))["sums"])
    assert sorted((name, version, b) for name, version, b, _ in server.asked) == [
        ("sums", "15", 2), ("sums", "15", 4)
    ]  # fmt: skip
    assert {metadata["traceparent"] for *_, metadata in server.asked} == {trace}
    assert failures == []


def test_a_late_answer_is_the_fallbacks_and_the_server_is_then_left_alone() -> None:
    gate = threading.Event()

    def late(rows: Any, count: Any) -> Any:
        gate.wait(30)
        return sums(rows, count)

    server, fallback, failures = Server(late), Sums(), list[tuple[str, str]]()
    with serving(server) as address, made(address, fallback, failures, deadline_ms=50, retry_s=600) as make:
        try:
            network = make()
            for _ in range(3):
                np.testing.assert_array_equal(network(inputs())["sums"], Sums()(inputs())["sums"])
        finally:
            gate.set()
    assert failures == [("sums", "deadline_exceeded")]
    assert len(server.asked) == 1
    assert fallback.calls == 3


def test_a_server_that_is_well_again_is_asked_again() -> None:
    broken = True

    def sometimes(rows: Any, count: Any) -> Any:
        if broken:
            raise ValueError("broken")
        return sums(rows, count)

    server, fallback, failures = Server(sometimes), Sums(), list[tuple[str, str]]()
    with serving(server) as address, made(address, fallback, failures, retry_s=1e-6) as make:
        network = make()
        network(inputs())
        assert (failures, fallback.calls) == ([("sums", "unknown")], 1)
        broken = False
        found = network(inputs())
    np.testing.assert_array_equal(found["sums"], Sums()(inputs())["sums"])
    assert (failures, fallback.calls) == ([("sums", "unknown")], 1)


@pytest.mark.parametrize("wrong", [lambda rows, count: rows, lambda rows, count: sums(rows, count)[:-1]])
def test_an_answer_of_another_shape_counts_as_none(wrong: Callable[[Any, Any], Any]) -> None:
    fallback, failures = Sums(), list[tuple[str, str]]()
    with serving(Server(wrong)) as address, made(address, fallback, failures) as make:
        found = make()(inputs())
    np.testing.assert_array_equal(found["sums"], Sums()(inputs())["sums"])
    assert failures == [("sums", "ValueError")]


def test_without_a_fallback_a_lost_call_is_an_error() -> None:
    failures = list[tuple[str, str]]()
    server = Server(sums)
    with serving(server) as address, made(address, None, failures) as make:
        network = make()
        server.outputs = lambda rows, count: rows / None
        for _ in range(2):
            with pytest.raises(InferenceServerException):
                network(inputs())
    assert failures == [("sums", "unknown")] * 2


def test_a_model_that_is_not_loaded_is_refused_or_left_to_the_fallback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, failures = Server(sums), list[tuple[str, str]]()
    server.ready = False
    with (
        serving(server) as address,
        made(address, None, failures) as make,
        pytest.raises(RuntimeUnavailable, match="export-triton"),
    ):
        make()
    with serving(server) as address, made(address, Sums(), failures) as make:
        make()
    assert "does not serve model 'sums'" in caplog.text


def test_nobody_at_the_address_is_the_fallbacks() -> None:
    fallback, failures = Sums(), list[tuple[str, str]]()
    with made(f"127.0.0.1:{free_block()[0]}", fallback, failures, deadline_ms=500) as make:
        found = make()(inputs())
    np.testing.assert_array_equal(found["sums"], Sums()(inputs())["sums"])
    assert len(failures) == 1
    assert failures[0][1] in {"unavailable", "deadline_exceeded"}
