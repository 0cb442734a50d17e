"""The runtime `triton` when its server is slow, wrong, elsewhere or gone.

The server here speaks real gRPC and answers as a test says; a real Triton is in `test_runtimes`.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.local.ports import free_block
from serving.runtime.protocol import RuntimeUnavailable
from serving.runtime.triton import TritonClient, TritonRuntime
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
HANGS_S = 30.0
"""Seconds after which what should have come counts as never coming."""


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


class Connection(socketserver.BaseRequestHandler):
    """Passes on what comes from either side; one that is cut stays open, and nothing arrives."""

    server: Way

    def handle(self) -> None:
        number = self.server.taken = self.server.taken + 1
        self.server.held.add(number)
        with socket.create_connection(self.server.end) as beyond, suppress(OSError):
            other, ended = {self.request: beyond, beyond: self.request}, False
            while not ended:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(65_536)
                    ended |= not data
                    if number > self.server.cut:
                        other[source].sendall(data)
        self.server.held.discard(number)


class Way(socketserver.ThreadingTCPServer):
    """Leads to an address. Its first `cut` connections lead nowhere, as those to a machine that is gone.

    Attributes:
        taken: how many connections there were.
        held: those that the caller has not closed, counted from 1.
    """

    daemon_threads = True

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.end, self.taken, self.cut, self.held = (host, int(port)), 0, 0, set[int]()
        super().__init__(("127.0.0.1", 0), Connection)


@contextmanager
def way(address: str) -> Iterator[tuple[str, Way]]:
    """Its address, and itself."""
    with Way(address) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{made.server_address[1]}", made
        finally:
            made.shutdown()
            thread.join()


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


def test_a_connection_that_leads_nowhere_is_given_up() -> None:
    server, failures = Server(sums), list[tuple[str, str]]()
    with (
        serving(server) as address,
        way(address) as (through, leading),
        made(through, Sums(), failures, deadline_ms=200, retry_s=1e-6) as make,
    ):
        network = make()
        leading.cut = leading.taken
        assert leading.held == {1}
        until = time.monotonic() + HANGS_S
        while not server.asked or 1 in leading.held:
            assert time.monotonic() < until, (failures, leading.held)
            network(inputs())
    assert {reason for _, reason in failures} == {"deadline_exceeded"}


def test_calls_under_way_keep_the_connection_that_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.runtime.triton.KEPT_S", 0)
    asked, failed = threading.Event(), threading.Event()

    def late(rows: Any, count: Any) -> Any:
        asked.set()
        assert failed.wait(HANGS_S)
        return sums(rows, count)

    with (
        serving(Server(late)) as address,
        way(address) as (through, leading),
        ThreadPoolExecutor() as threads,
    ):
        client = TritonClient(through)
        try:
            patient = threads.submit(client.infer, "sums", "15", [inputs()], SIGNATURE, HANGS_S, {})
            assert asked.wait(HANGS_S)
            with pytest.raises(InferenceServerException):
                client.infer("sums", "15", [inputs()], SIGNATURE, 1.0, {})
            failed.set()
            [[found]] = patient.result()
            client.infer("sums", "15", [inputs()], SIGNATURE, HANGS_S, {})
        finally:
            failed.set()
            client.close()
    np.testing.assert_array_equal(found, Sums()(inputs())["sums"])
    assert leading.taken == 2


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
