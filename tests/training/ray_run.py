"""`python -m tests.training.ray_run FOLDER`: one `trainer.fit` of what lies in the folder, as a process that
tests can interrupt. Prints a JSON line for each epoch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from training.cli import stoppable
from training.loop import Inputs
from training.schedule import Schedule
from training.trainer import TrainingFailed, fit


def main(folder: Path) -> None:
    schedule = Schedule(**json.loads((folder / "schedule.json").read_text()))
    inputs = Inputs.read(folder / "given.safetensors")
    with stoppable():
        weights = fit(inputs, schedule, folder / "run", lambda facts: print(json.dumps(facts), flush=True))
    torch.save(weights, folder / "weights.pt")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
    except TrainingFailed as error:
        sys.exit(str(error))
