"""Ray Train: starts the workers, keeps their checkpoints, replaces a worker that died.

The driver never computes: it waits, shows progress, and leaves Ray again whatever happens: its own is taken
down, a cluster that it joined (RAY_ADDRESS) stays. Inputs, checkpoints and progress are files in one folder,
which every node of a cluster must see.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.failure import Place, last_line, why
from training.loop import CHECKPOINT, CPU, Inputs, State, Weights, Worker, train
from training.ray_session import cluster_address, joined_ray, own_ray
from training.schedule import Schedule

Shown = Callable[[dict[str, Any]], None]
"""Called with what rank 0 reported after each epoch: job, epoch, epochs, loss, pid."""

RUN_NAME = "two-tower"
MAX_FAILURES = 1
"""Worker groups that may die before the run is given up: a machine that kills two is out of memory."""
PEER_TIMEOUT_S = 60
"""After which a rank whose peer is gone fails, with NCCL too. A step takes tens of milliseconds."""
POLL_S = 0.2
"""Between two looks at the workers and at their progress."""

_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),  # 2 s by default, after every epoch
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; unset, every worker warns of it
}


class TrainingFailed(Exception):
    """The workers could not be started or died too often; the message is one line."""


def fit(inputs: Inputs, schedule: Schedule, directory: Path, shown: Shown) -> dict[str, Weights]:
    """Trains the two-towers of `inputs.jobs` on `schedule.workers` processes: job → weights.

    What `directory` holds of an interrupted run is taken up at its last finished epoch; the caller sees to
    it that a directory is only ever used for the same inputs and schedule.

    Raises:
        TrainingFailed: Ray did not start or cannot be joined, it has no room for the workers, or more of them
            died than `MAX_FAILURES` allows.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    final = directory / CHECKPOINT
    if not final.exists():
        inputs.write(directory / "inputs.safetensors")
        with _ray(schedule):
            _check_room(schedule)
            _run(schedule, directory, shown)
    return State.read(directory).finished


def _run(schedule: Schedule, directory: Path, shown: Shown) -> None:
    """Leaves the final checkpoint in `directory`. `fit()` runs on a thread: on the main one Ray takes SIGINT
    over, which would leave the caller without a chance to clean up."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    progress = directory / "progress.jsonl"
    progress.unlink(missing_ok=True)
    trainer = TorchTrainer(
        worker,
        train_loop_config={
            "inputs": str(directory / "inputs.safetensors"),
            "progress": str(progress),
            "schedule": asdict(schedule),
        },
        torch_config=TorchConfig(backend="nccl" if schedule.gpu else "gloo", timeout_s=PEER_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(
            num_workers=schedule.workers,
            use_gpu=schedule.gpu,
            resources_per_worker=_of_a_worker(schedule),
            placement_strategy="SPREAD",  # nodes are added to compute: each takes its part
        ),
        run_config=ray.train.RunConfig(
            name=RUN_NAME,
            storage_path=str(directory),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    outcome: list[ray.train.Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(trainer.fit())
        except BaseException as error:  # handed to the main thread
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    tail = _Tail(progress)
    while thread.is_alive():
        thread.join(POLL_S)
        for facts in tail.new():
            shown(facts)
    result = outcome[0]
    if isinstance(result, BaseException):
        raise TrainingFailed(f"training workers failed: {why(result, directory)}") from result
    assert result.checkpoint is not None  # every epoch reports one
    with result.checkpoint.as_directory() as last:
        partial = directory / f".{CHECKPOINT}"
        shutil.copyfile(Path(last) / CHECKPOINT, partial)
        partial.replace(directory / CHECKPOINT)


def worker(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker process.

    Args:
        config: `inputs` and `progress`, paths that the workers can reach; `schedule`, its fields.
    """
    import ray.train
    import ray.train.torch
    import torch

    torch.set_num_threads(1)
    context = ray.train.get_context()
    rank, schedule = context.get_world_rank(), Schedule(**config["schedule"])
    Place.here().note(Path(config["inputs"]).parent, rank)
    device = ray.train.torch.get_device() if schedule.gpu else CPU
    if schedule.gpu:
        torch.cuda.set_device(device)  # where NCCL computes
    checkpoint = ray.train.get_checkpoint()
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as last:
            state = State.read(Path(last))

    def report(facts: dict[str, float | str], state: State) -> None:
        if rank != 0:
            ray.train.report(dict(facts))
            return
        with tempfile.TemporaryDirectory() as directory:
            state.write(Path(directory))
            ray.train.report(dict(facts), checkpoint=ray.train.Checkpoint.from_directory(directory))
        with Path(config["progress"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**facts, "pid": os.getpid()}) + "\n")

    inputs = Inputs.read(Path(config["inputs"]))
    train(inputs, schedule, Worker(rank, context.get_world_size(), device), state, report)


class _Tail:
    """Reads what was appended to a file of JSON lines since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        text = self._path.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@contextmanager
def _ray(schedule: Schedule) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names; without one, a Ray of this run's own, gone at the end with all its
    processes and files."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    on_terminate = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        address = cluster_address()
        try:
            if address:
                stack.enter_context(joined_ray(address))
            else:
                _start(schedule, stack)
        except Exception as error:
            failed = f"RAY_ADDRESS={address} cannot be joined" if address else "Ray did not start"
            raise TrainingFailed(f"{failed}: {last_line(error)}") from error
        if threading.current_thread() is threading.main_thread():
            # Ray has put one there that aborts, without cleaning up
            signal.signal(signal.SIGTERM, on_terminate)
        yield


def _start(schedule: Schedule, stack: ExitStack) -> None:
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")  # they need the dashboard
    # Without a token of its own Ray would write one to ~/.ray, and anyone on the machine could connect.
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    scratch = Path(tempfile.mkdtemp(prefix="mq-", dir="/tmp"))
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    stack.enter_context(own_ray(scratch, num_cpus=schedule.workers))


def _of_a_worker(schedule: Schedule) -> dict[str, float]:
    """One of each kind."""
    return {"CPU": 1, "GPU": 1} if schedule.gpu else {"CPU": 1}


def _check_room(schedule: Schedule) -> None:
    """Raises TrainingFailed where Ray Train would wait for ever for what is not there."""
    import ray

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray has no types for it
    for kind in _of_a_worker(schedule):
        if (count := there.get(kind, 0)) < schedule.workers:
            asked = f"{schedule.workers} workers ask for a {kind} each and Ray has {count:g}"
            raise TrainingFailed(f"{asked}: add nodes, lower --workers, or train without --gpu")
