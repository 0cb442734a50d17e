"""Two training ranks without Ray: what a run on Ray must give as well."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from training.loop import Inputs, State, Weights, Worker, train
from training.schedule import Schedule


def silent(facts: dict[str, float | str], state: State) -> None: ...


def assert_equal(one: dict[str, Weights], other: dict[str, Weights]) -> None:
    assert one.keys() == other.keys()
    for job, weights in one.items():
        for name, tensor in weights.items():
            assert torch.equal(tensor, other[job][name]), f"{job} {name}"


def two_ranks(inputs: Inputs, schedule: Schedule, folder: Path) -> list[dict[str, Weights]]:
    """What each of two gloo processes ends with."""
    inputs.write(folder / "inputs.safetensors")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_rank, (str(folder), port, schedule), nprocs=2)  # type: ignore[no-untyped-call]  # torch has no types for it
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _rank(rank: int, folder: str, port: int, schedule: Schedule) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    weights = train(Inputs.read(Path(folder) / "inputs.safetensors"), schedule, Worker(rank, 2), None, silent)
    torch.save(weights, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
