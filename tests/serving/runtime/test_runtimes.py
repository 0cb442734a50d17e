"""One contract for every runtime: equal results, the same order, and a batch that equals its singles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loadtests.bench.peers.environments import NoEnvironment
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime, RuntimeUnavailable
from serving.runtime.torch import PaddedNetwork
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions, TritonOptions
from tests.serving.runtime.triton_server import served
from training.bundle import Bundle, read_bundle
from training.models.arrays import Float32
from training.models.network import Arrays, Network, Signature
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import load
from training.triton_repository import export

CLOSE = 1e-3
BATCHES = (0, 1, 3, 64, 70)
"""None, one, between two sizes, the largest size, and more than that."""


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return read_bundle(str(bundle_dir))


@dataclass(frozen=True)
class Family:
    """A family with a network: its component's name, its module, and inputs of b rows."""

    name: str
    module: str
    inputs: Callable[[Signature, int, np.random.Generator], dict[str, np.ndarray]]


def user_inputs(signature: Signature, b: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    events, length, features = signature.inputs
    longest = int(rng.integers(1, signature.sizes["length"][-1] + 1))
    return {
        events.name: rng.standard_normal((b, longest, events.axes[1]), dtype=np.float32),
        length.name: rng.integers(0, longest + 1, b),
        features.name: rng.standard_normal((b, features.axes[0]), dtype=np.float32),
    }


FAMILIES = (Family("two_tower", TwoTowerScorer.NETWORK, user_inputs),)


@pytest.fixture(scope="module", params=["onnx", "torch", "padded", pytest.param("triton", marks=pytest.mark.slow)])
def computes(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    """Each runtime, with no other to fall back to."""
    name: str = request.param
    if name == "triton":
        folder = tmp_path_factory.mktemp("triton")
        export(bundle, folder / "exported")
        try:
            with served(folder / "exported", folder) as address:
                options = TritonOptions(address=address, deadline_ms=5_000, fallback="none")
                made = runtime(RuntimeName.TRITON, RuntimeOptions(triton=options))
                yield made
                made.close()
        except NoEnvironment as why:
            pytest.skip(str(why))
        return
    if name == "padded":
        yield Padded()
        return
    made = runtime(RuntimeName(name), RuntimeOptions(torch=TorchOptions(device="cpu")))
    yield made
    made.close()


class Padded:
    """What the runtime `torch` does on a GPU, but for the graphs: on a CPU."""

    def network(self, component, name, version, module) -> Network:  # type: ignore[no-untyped-def]
        signature = Signature.from_json(component.settings["network"])
        found = __import__(module, fromlist=["load"]).load(component)
        return PaddedNetwork(found, signature, torch.device("cpu"), torch.float32, graphs=False)

    def close(self) -> None: ...
