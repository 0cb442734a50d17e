"""Networks on a Triton Inference Server, over gRPC, with another runtime to fall back to.

Stages compute on worker threads and call synchronously; the client is asynchronous, lives on an event loop of
its own thread, and keeps each call's deadline. A server that failed is left alone for `retry_s`, in which the
fallback computes at once. Does not belong here: the model repository (`training.triton_repository`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.runtime.protocol import Runtime, RuntimeUnavailable
from serving.runtime_options import TritonOptions
from training.bundle import Component
from training.models.arrays import Float32
from training.models.network import BATCH, Arrays, Network, Signature, TensorSpec
from training.triton_repository import TYPES, model_version

T = TypeVar("T")

log = logging.getLogger(__name__)

GRACE_S = 0.05
"""Seconds beyond a call's deadline, which the client keeps itself, before its thread is taken to be stuck."""

READY_PAUSE_S = 0.1
"""Seconds between two looks at a server that is loading a model."""

KEPT_S = 1.0
"""Seconds that a connection is kept although calls fail: a server that is only busy meets few new ones."""

CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else a new channel goes on with the connection before
)
"""gRPC's channel arguments: messages of any size, as tritonclient's own, and a connection of its own."""


class TritonClient:
    """Synchronous calls of `tritonclient.grpc.aio`, from any thread.

    After a call that failed, the next ones take a new connection. The old one may lead to a machine that is
    gone, which TCP sees after a quarter of an hour, while the address leads elsewhere by now; and gRPC would
    wait up to two minutes before it tries an address again that refused.
    """

    def __init__(self, address: str) -> None:
        """Connects with the first call.

        Args:
            address: host:port of the server's gRPC endpoint.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton-client", daemon=True)
        self._thread.start()
        self._address = address
        self._closing = set[asyncio.Task[None]]()
        self._wait(self._connect(), 10)

    def ready(self, model: str, version: str, timeout_s: float) -> bool:
        """Whether the server is there and has loaded the model."""
        try:
            return bool(
                self._wait(self._client.is_model_ready(model, version, client_timeout=timeout_s), timeout_s)
            )
        except (InferenceServerException, TimeoutError):
            return False

    def infer(
        self,
        model: str,
        version: str,
        parts: Sequence[Arrays],
        signature: Signature,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> list[list[Float32]]:
        """The outputs of each part of a batch, in the signature's order.

        Raises:
            InferenceServerException, TimeoutError: no answer in time, or an error for one.
            ValueError: an answer that is not as the signature says.
        """
        outputs = [InferRequestedOutput(spec.name) for spec in signature.outputs]

        async def one(client: InferenceServerClient, arrays: Arrays) -> list[Float32]:
            inputs = [_input(spec, arrays) for spec in signature.inputs]
            answer = await client.infer(
                model,
                inputs,
                model_version=version,
                outputs=outputs,
                client_timeout=timeout_s,
                headers=dict(headers),
            )
            batch = len(arrays[signature.inputs[0].name])
            return [_checked(spec, answer.as_numpy(spec.name), batch) for spec in signature.outputs]

        async def every() -> list[list[Float32]]:
            client = self._client
            try:
                return await asyncio.gather(*(one(client, arrays) for arrays in parts))
            except (InferenceServerException, asyncio.CancelledError):
                await self._leave(client, timeout_s)
                raise

        return self._wait(every(), timeout_s)

    def close(self) -> None:
        """Closes the connection and ends the thread; a second time it does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._closed(), 10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _connect(self) -> None:
        """On the loop, to which a connection belongs."""
        self._client = InferenceServerClient(self._address, channel_args=CHANNEL)
        self._since = self._loop.time()

    async def _leave(self, client: InferenceServerClient, calls_s: float) -> None:
        """Later calls take another connection; those under way, which end within `calls_s`, keep theirs."""
        if client is not self._client or self._loop.time() < self._since + KEPT_S:
            return
        await self._connect()

        async def close() -> None:
            await asyncio.sleep(calls_s + GRACE_S)
            await client.close()

        task = self._loop.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self) -> None:
        await asyncio.gather(*self._closing)
        await self._client.close()

    def _wait(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s + GRACE_S)
        except TimeoutError:
            future.cancel()
            raise
        finally:
            del future  # it holds an error that holds this frame: a connection that is left would stay open


class TritonRuntime:
    def __init__(
        self,
        options: TritonOptions,
        fallback: Runtime | None,
        on_failure: Callable[[str, str], None],
        traceparent: Callable[[], str | None],
    ) -> None:
        self._options, self._fallback = options, fallback
        self._on_failure, self._traceparent = on_failure, traceparent
        self._client = TritonClient(options.address)

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        """As `protocol.Runtime.network`. Where the server has not loaded the model within `ready_s`, the
        fallback computes until it has."""
        fallback = self._fallback.network(component, name, version, module) if self._fallback else None
        if not self._ready(name, model_version(version)):
            missing = f"{self._options.address} does not serve model {name!r} of bundle {version}"
            if fallback is None:
                raise RuntimeUnavailable(f"{missing}; run `marquee bundle export-triton` into its repository")
            log.warning("%s; %s computes meanwhile", missing, self._options.fallback)
        signature = Signature.from_json(component.settings["network"])
        return TritonNetwork(
            self._client,
            (name, model_version(version)),
            signature,
            fallback,
            self._options,
            self._on_failure,
            self._traceparent,
        )

    def close(self) -> None:
        if self._fallback is not None:
            self._fallback.close()
        self._client.close()

    def _ready(self, name: str, version: str) -> bool:
        """Within `ready_s`."""
        until = time.monotonic() + self._options.ready_s
        while not self._client.ready(name, version, self._options.deadline_ms / 1e3):
            if time.monotonic() + READY_PAUSE_S > until:
                return False
            time.sleep(READY_PAUSE_S)
        return True


class TritonNetwork:
    """One version of one model of the server, and what computes where the server does not."""

    def __init__(
        self,
        client: TritonClient,
        model: tuple[str, str],
        signature: Signature,
        fallback: Network | None,
        options: TritonOptions,
        on_failure: Callable[[str, str], None],
        traceparent: Callable[[], str | None],
    ) -> None:
        """Args:
        model: name and version.
        """
        self._client, self._model, self._signature, self._fallback = client, model, signature, fallback
        self._options, self._on_failure, self._traceparent = options, on_failure, traceparent
        self._not_before = -float("inf")

    @property
    def signature(self) -> Signature:
        return self._signature

    def __call__(self, inputs: Arrays) -> dict[str, Float32]:
        lengths = self._signature.check(inputs)
        if self._fallback is not None and time.monotonic() < self._not_before:
            return self._fallback(inputs)
        try:
            return self._ask(inputs, lengths[BATCH])
        except (InferenceServerException, TimeoutError, ValueError) as error:
            self._not_before = time.monotonic() + self._options.retry_s
            self._on_failure(self._model[0], _reason(error))
            if self._fallback is None:
                raise
            return self._fallback(inputs)

    def _ask(self, inputs: Arrays, batch: int) -> dict[str, Float32]:
        most = self._signature.sizes[BATCH][-1]
        parts = [
            {name: array[start : start + most] for name, array in inputs.items()}
            for start in range(0, batch, most)
        ]
        if not parts:
            return {
                spec.name: np.empty((0, *map(int, spec.axes)), np.float32) for spec in self._signature.outputs
            }
        traceparent = self._traceparent()
        found = self._client.infer(
            *self._model,
            parts,
            self._signature,
            self._options.deadline_ms / 1e3,
            {} if traceparent is None else {"traceparent": traceparent},
        )
        outputs = zip(self._signature.outputs, zip(*found, strict=True), strict=True)
        return {spec.name: np.concatenate(arrays) for spec, arrays in outputs}


def _input(spec: TensorSpec, arrays: Arrays) -> InferInput:
    array = np.ascontiguousarray(arrays[spec.name])
    array = array.reshape(len(array), *(array.shape[1:] or (1,)))  # as `triton_repository` declares it
    given = InferInput(spec.name, array.shape, TYPES[spec.dtype])
    given.set_data_from_numpy(array)
    return given


def _checked(spec: TensorSpec, array: Any, batch: int) -> Float32:
    shape = (batch, *(spec.axes or (1,)))
    if array is None or array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"Triton's {spec.name} is not float32 of shape {shape}")
    found: Float32 = array.reshape(batch, *spec.axes)
    return found


def _reason(error: Exception) -> str:
    """gRPC's status in lower case, as "deadline_exceeded", else the error's class."""
    status = error.status() if isinstance(error, InferenceServerException) else None
    return status.removeprefix("StatusCode.").lower() if status else type(error).__name__
