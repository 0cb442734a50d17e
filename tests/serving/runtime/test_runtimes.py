"""One contract for every runtime: equal results, the same order, and a batch that equals its singles."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loadtests.bench.peers.environments import NoEnvironment
from serving.runtime.factory import runtime
from serving.runtime.protocol import Runtime, RuntimeUnavailable
from serving.runtime.torch import PaddedNetwork
from serving.runtime_options import RuntimeName, RuntimeOptions, TorchOptions, TritonOptions
from tests.serving.runtime.triton_server import served
from training.bundle import Bundle, Component, read_bundle
from training.models.dcn.estimator import fit_dcn
from training.models.dcn.model import DcnRanker
from training.models.dcn.options import DcnOptions
from training.models.eager import EagerNetwork
from training.models.network import Network, Signature
from training.models.ragged import Ragged
from training.models.ranking_lists import RankingLists
from training.models.two_tower.model import TwoTowerScorer
from training.triton_repository import export

CLOSE = 1e-3
BATCHES = (0, 1, 3, 64, 70)
"""None, one, between two sizes, the largest size, and more than that."""


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    """With a second network, which ranks."""
    read = read_bundle(str(bundle_dir))
    rng = np.random.default_rng(0)
    lists = RankingLists(
        tuple("abcd"), rng.standard_normal((50, 6, 4), dtype=np.float32), np.ones((50, 6), np.bool_)
    )
    ranker = fit_dcn(lists, DcnOptions(steps=20)).to_component()
    return replace(read, components={**read.components, "dcn": ranker})


@dataclass(frozen=True)
class Family:
    """A family with a network: its component's name, its module, and inputs of b rows."""

    name: str
    module: str
    inputs: Callable[[Signature, int, np.random.Generator], dict[str, NDArray[Any]]]


def user_inputs(signature: Signature, b: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    events, length, features = signature.inputs
    longest = int(rng.integers(1, signature.sizes["length"][-1] + 1))
    return {
        events.name: rng.standard_normal((b, longest, events.axes[1]), dtype=np.float32),
        length.name: rng.integers(0, longest + 1, b),
        features.name: rng.standard_normal((b, features.axes[0]), dtype=np.float32),
    }


def ranking_inputs(signature: Signature, b: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Not contiguous, and not to be written to, as columns of a batch from another process are."""
    [rows] = signature.inputs
    given = 2 * rng.standard_normal((rows.axes[0], b), dtype=np.float32).T
    given.flags.writeable = False
    return {rows.name: given}


FAMILIES = (
    Family("two_tower", TwoTowerScorer.NETWORK, user_inputs),
    Family("dcn", DcnRanker.NETWORK, ranking_inputs),
)


class Padded:
    """The runtime `torch` as it computes on a GPU, but on a CPU and so without graphs."""

    def network(self, component: Component, name: str, version: str, module: str) -> Network:
        found = importlib.import_module(module).load(component)
        signature = Signature.from_json(component.settings["network"])
        return PaddedNetwork(found, signature, torch.device("cpu"), torch.float32, graphs=False)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(
    scope="module", params=["onnx", "torch", "padded", "cuda", pytest.param("triton", marks=pytest.mark.slow)]
)
def computes(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    """Each runtime, with no other to fall back to."""
    with ExitStack() as stack:
        if request.param == "padded":
            yield Padded()
            return
        name, options = request.param, RuntimeOptions(torch=TorchOptions(device="cpu"))
        if request.param == "cuda":
            if not torch.cuda.is_available():
                pytest.skip("no GPU on this machine")
            name, options = "torch", RuntimeOptions()
        if request.param == "triton":
            folder = tmp_path_factory.mktemp("triton")
            export(bundle, folder / "exported")
            try:
                address = stack.enter_context(served(folder / "exported", folder))
            except NoEnvironment as why:
                pytest.skip(str(why))
            triton = TritonOptions(address=address, deadline_ms=5_000, fallback="none")
            options = RuntimeOptions(triton=triton)
        made = runtime(RuntimeName(name), options)
        stack.callback(made.close)
        yield made


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def network(computes: Runtime, bundle: Bundle, family: Family) -> Network:
    component, version = bundle.component(family.name), bundle.manifest.version
    return computes.network(component, family.name, version, family.module)


@pytest.fixture
def reference(bundle: Bundle, family: Family) -> Network:
    """The module itself."""
    component = bundle.component(family.name)
    signature = Signature.from_json(component.settings["network"])
    return EagerNetwork(importlib.import_module(family.module).load(component), signature)


def test_the_signature_is_the_components(network: Network, reference: Network) -> None:
    assert network.signature == reference.signature


@pytest.mark.parametrize("b", BATCHES)
def test_results_are_the_modules(network: Network, reference: Network, family: Family, b: int) -> None:
    for seed in range(5):
        inputs = family.inputs(network.signature, b, np.random.default_rng(seed))
        found, expected = network(inputs), reference(inputs)
        assert found.keys() == expected.keys()
        for name, array in found.items():
            assert array.dtype == np.float32
            assert array.shape == expected[name].shape
            np.testing.assert_allclose(array, expected[name], atol=CLOSE)


def test_a_batch_equals_its_singles(network: Network, family: Family) -> None:
    inputs = family.inputs(network.signature, 5, np.random.default_rng(1))
    found = network(inputs)
    for row in range(5):
        alone = network({name: array[row : row + 1] for name, array in inputs.items()})
        for name, array in alone.items():
            np.testing.assert_allclose(array[0], found[name][row], atol=1e-5)


def test_inputs_of_another_shape_are_refused(network: Network, family: Family) -> None:
    inputs = family.inputs(network.signature, 2, np.random.default_rng(2))
    with pytest.raises(ValueError, match="takes"):
        network({})
    first = network.signature.inputs[0].name
    with pytest.raises(ValueError, match=first):
        network({**inputs, first: inputs[first].astype(np.float64)})


def test_users_get_the_same_best_items_wherever_their_vectors_are_computed(
    computes: Runtime, bundle: Bundle
) -> None:
    component, version = bundle.component("two_tower"), bundle.manifest.version
    module = importlib.import_module(TwoTowerScorer.NETWORK)
    networks = (
        computes.network(component, "two_tower", version, TwoTowerScorer.NETWORK),
        EagerNetwork(module.load(component), Signature.from_json(component.settings["network"])),
    )
    rng = np.random.default_rng(3)
    items = len(component.arrays["item_vectors"])
    histories = Ragged.of([rng.integers(0, items, length).astype(np.int32) for length in range(90)], np.int32)
    features = rng.standard_normal((90, networks[0].signature.inputs[2].axes[0]), dtype=np.float32)
    best = []
    for network in networks:
        model = TwoTowerScorer.from_component(component, network)
        scores = model.user_vectors(histories, features) @ model.item_vectors.T
        best.append(np.argsort(-scores, axis=1)[:, :10])
    np.testing.assert_array_equal(*best)


def test_a_component_without_onnx_is_refused(bundle: Bundle) -> None:
    component = replace(bundle.component("two_tower"), onnx=None)
    with pytest.raises(RuntimeUnavailable, match="no ONNX model"):
        runtime(RuntimeName.ONNX, RuntimeOptions()).network(component, "two_tower", "0" * 12, "")


def test_a_gpu_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RuntimeUnavailable, match="no GPU"):
        runtime(RuntimeName.TORCH, RuntimeOptions())


def test_bfloat16_is_close(bundle: Bundle) -> None:
    component, version = bundle.component("two_tower"), bundle.manifest.version
    half, whole = (
        runtime(RuntimeName.TORCH, RuntimeOptions(torch=TorchOptions(device="cpu", dtype=dtype))).network(
            component, "two_tower", version, TwoTowerScorer.NETWORK
        )
        for dtype in ("bfloat16", "float32")
    )
    inputs = user_inputs(half.signature, 16, np.random.default_rng(4))
    found, expected = half(inputs)["user_vectors"], whole(inputs)["user_vectors"]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert not np.array_equal(found, expected)
