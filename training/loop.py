"""What every training worker runs: epochs over its share of the examples, a checkpoint after each, resume.

A run that was interrupted and resumed gives the weights of one that was not: all randomness is drawn from
(seed, job, epoch, rank). On CPUs bit for bit; on GPUs, which add up in no fixed order, nearly. Does not
belong here: how workers are started and where checkpoints go (`trainer`), network and loss (a family's
`estimator`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.mapped import mapped
from training.models.two_tower.estimator import TwoTowerEstimator
from training.optimizers import Optimizers
from training.schedule import Schedule, one_cycle

Weights = dict[str, torch.Tensor]

CHECKPOINT = "state.pt"
"""Read with `weights_only=True`: tensors and plain values, never code."""

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the workers need of a data set.

    Attributes:
        item_index: int32 [n], of every event, sorted by user and time. start: int64 [n], where the event's
            user begins.
        user_features: float32 [n, w], before each event. item_features: float32 [m, f].
        jobs: name of a two-tower to train → positions of its examples, int64; in the order to train them.
    """

    offsets: NDArray[np.int64]
    item_index: NDArray[np.int32]
    user_features: NDArray[np.float32]
    item_features: NDArray[np.float32]
    jobs: Mapping[str, NDArray[np.int64]]

    def write(self, path: Path) -> None:
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        jobs = {f"job {name}": examples for name, examples in self.jobs.items()}
        save_file({**arrays, **jobs}, path, metadata={"jobs": json.dumps(list(self.jobs))})

    @staticmethod
    def read(path: Path) -> Inputs:
        """Mapped: workers on one machine share its memory."""
        arrays, metadata = mapped(path)
        jobs = {name: arrays[f"job {name}"] for name in json.loads(metadata["jobs"])}
        return Inputs(**{name: arrays[name] for name in _ARRAYS}, jobs=jobs)


_ARRAYS = ("offsets", "item_index", "user_features", "item_features")


@dataclass(slots=True)
class State:
    """Where training stands after an epoch: all that a checkpoint holds.

    Attributes:
        job: in progress, `epoch` epochs done. finished: weights of the jobs before it.
    """

    job: str
    epoch: int
    model: Weights
    optimizer: dict[str, Any]
    finished: dict[str, Weights]

    def write(self, directory: Path) -> None:
        torch.save(asdict(self), directory / CHECKPOINT)

    @staticmethod
    def read(directory: Path) -> State:
        return State(**torch.load(directory / CHECKPOINT, weights_only=True, map_location="cpu"))


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of how many data-parallel processes this is, and what it computes on."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU


Report = Callable[[dict[str, float | str], State], None]


def train(
    inputs: Inputs, schedule: Schedule, worker: Worker, state: State | None, report: Report
) -> dict[str, Weights]:
    """Trains the jobs that `state` has not finished, and gives all their weights.

    With several workers a process group must be there; every rank ends with the same weights.

    Args:
        state: to resume from; None starts afresh.
        report: called after each epoch, on every rank.
    """
    finished = dict(state.finished) if state else {}
    for job in inputs.jobs:
        if job in finished:
            continue
        run = _Run.begin(inputs, schedule, worker, job)
        done = run.resume(state) if state and state.job == job else 0
        for epoch in range(done, schedule.epochs):
            loss = run.epoch(epoch)
            if epoch + 1 == schedule.epochs:
                finished[job] = run.estimator.network.state_dict()
            weights = run.estimator.network.state_dict()
            report(
                {"job": job, "epoch": epoch + 1, "epochs": schedule.epochs, "loss": loss},
                State(job, epoch + 1, weights, run.optimizer.state_dict(), finished),
            )
    return finished


@dataclass(frozen=True, slots=True)
class _Run:
    """One job on one worker. `network` is the estimator's, behind DDP where there are several workers."""

    inputs: Inputs
    schedule: Schedule
    worker: Worker
    job: str
    estimator: TwoTowerEstimator
    network: nn.Module
    optimizer: Optimizers

    @staticmethod
    def begin(inputs: Inputs, schedule: Schedule, worker: Worker, job: str) -> _Run:
        torch.manual_seed(_seed(schedule, job))
        estimator = TwoTowerEstimator(
            inputs.offsets,
            inputs.item_index,
            inputs.user_features,
            inputs.item_features,
            inputs.jobs[job],
            worker.device,
        )
        alone = estimator.network
        network = _distributed(alone) if worker.world > 1 else alone
        optimizer = Optimizers.of(alone, schedule.learning_rate, schedule.weight_decay)
        return _Run(inputs, schedule, worker, job, estimator, network, optimizer)

    def resume(self, state: State) -> int:
        """The number of epochs that are done."""
        self.estimator.network.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        return state.epoch

    def epoch(self, epoch: int) -> float:
        """One pass over this rank's share of the examples; the mean loss."""
        batches = self._batches(epoch)
        torch.manual_seed(_seed(self.schedule, self.job, epoch, self.worker.rank))
        self.network.train()
        total = 0.0
        for step, batch in enumerate(batches):
            progress = (epoch + step / len(batches)) / self.schedule.epochs
            self.optimizer.set_rate(self.schedule.learning_rate * one_cycle(progress, self.schedule.warmup))
            total += self._step(batch)
        return total / len(batches)

    def _batches(self, epoch: int) -> NDArray[np.int64]:
        """Examples of this rank, int64 [steps, batch / world]: equally many on every rank, each drawn once an
        epoch but for the few that do not fill a batch; again where there are fewer than ranks."""
        world = self.worker.world
        rng = np.random.default_rng([self.schedule.seed, zlib.crc32(self.job.encode()), epoch])
        order = rng.permutation(self.inputs.jobs[self.job])[: self.schedule.examples]
        if not len(order):
            raise ValueError(f"nothing to train {self.job} on")
        order = np.resize(order, max(len(order), world))
        share = min(self.schedule.batch, len(order)) // world
        steps = len(order) // (share * world)
        return order[: steps * share * world].reshape(steps, world, share)[:, self.worker.rank]

    def _step(self, batch: NDArray[np.int64]) -> float:
        loss = self.estimator.loss(self.network, batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.optimizer.step()
        return loss.item()


def _distributed(network: nn.Module) -> nn.Module:
    """Buffers are the catalogue's features, alike everywhere: sending them each step was half of its time."""
    return DistributedDataParallel(network, broadcast_buffers=False)


def _seed(schedule: Schedule, job: str, *where: int) -> int:
    sequence = np.random.SeedSequence([schedule.seed, zlib.crc32(job.encode()), *where])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
