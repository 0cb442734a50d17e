from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.gloo import assert_equal, silent, two_ranks
from training.dataset import Dataset
from training.fitting import two_tower_inputs
from training.loop import Inputs, State, Worker, train
from training.recipe import default
from training.schedule import one_cycle

SCHEDULE = replace(default().schedule, epochs=3, batch=64)


@pytest.fixture(scope="module")
def inputs(dataset: Dataset) -> Inputs:
    older, _ = dataset.hold_out(8)
    return two_tower_inputs(
        dataset, {"held": dataset.examples(older), "serving": dataset.examples(dataset.train)}
    )


def test_inputs_survive_their_file(inputs: Inputs, tmp_path: Path) -> None:
    inputs.write(tmp_path / "inputs.safetensors")
    back = Inputs.read(tmp_path / "inputs.safetensors")
    assert list(back.jobs) == list(inputs.jobs)
    for name in ("offsets", "item_index", "user_features", "item_features"):
        np.testing.assert_array_equal(getattr(back, name), getattr(inputs, name))
    for job, examples in inputs.jobs.items():
        np.testing.assert_array_equal(back.jobs[job], examples)


def test_training_learns_and_reports_every_epoch_of_every_job(inputs: Inputs) -> None:
    seen: list[tuple[object, object, float]] = []
    train(
        inputs, SCHEDULE, Worker(), None, lambda f, _: seen.append((f["job"], f["epoch"], float(f["loss"])))
    )
    assert [(job, epoch) for job, epoch, _ in seen] == [
        (j, e) for j in ("held", "serving") for e in (1, 2, 3)
    ]
    assert seen[2][2] < seen[0][2]
    assert seen[5][2] < seen[3][2]


def test_equal_inputs_give_equal_weights_and_another_seed_others(inputs: Inputs) -> None:
    one = train(inputs, SCHEDULE, Worker(), None, silent)
    assert_equal(one, train(inputs, SCHEDULE, Worker(), None, silent))
    other = train(inputs, replace(SCHEDULE, seed=1), Worker(), None, silent)
    assert not torch.equal(one["held"]["item.weight"], other["held"]["item.weight"])


@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_a_run_stopped_after_any_epoch_resumes_to_the_same_weights(
    inputs: Inputs, tmp_path: Path, after: int
) -> None:
    reports = 0

    class Stopped(Exception): ...

    def stop(facts: dict[str, float | str], state: State) -> None:
        nonlocal reports
        reports += 1
        if reports == after:
            state.write(tmp_path)
            raise Stopped

    with pytest.raises(Stopped):
        train(inputs, SCHEDULE, Worker(), None, stop)
    torch.manual_seed(12345)  # what the new process happens to hold must not matter
    resumed: list[object] = []
    weights = train(
        inputs, SCHEDULE, Worker(), State.read(tmp_path), lambda facts, _: resumed.append(facts["epoch"])
    )
    assert len(resumed) == 6 - after
    assert_equal(weights, train(inputs, SCHEDULE, Worker(), None, silent))


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    torch.save({"job": functools.partial(print, "hello")}, tmp_path / "state.pt")
    with pytest.raises(Exception, match="weights_only"):
        State.read(tmp_path)


def test_two_ranks_agree_and_are_repeatable(inputs: Inputs, tmp_path: Path) -> None:
    first, second = two_ranks(inputs, SCHEDULE, tmp_path)
    assert_equal(first, second)
    assert_equal(first, two_ranks(inputs, SCHEDULE, tmp_path)[0])
    alone = train(inputs, SCHEDULE, Worker(), None, silent)
    assert not torch.equal(first["held"]["item.weight"], alone["held"]["item.weight"])


def test_a_step_is_computed_on_the_workers_device_up_to_the_loss(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta` refuses to be mixed with the CPU, as a GPU does, but holds no values: a step runs on it until
    its loss is read. Accidental hits need values."""
    monkeypatch.setattr(
        "training.models.two_tower.estimator.accidental_hits",
        lambda history, target: history[:, :1] == target,
    )
    stepped: list[torch.device] = []
    step = torch.optim.AdamW.step

    def recorded(self: torch.optim.AdamW) -> None:
        step(self)
        stepped.extend(each.device for group in self.param_groups for each in group["params"])

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        train(inputs, SCHEDULE, Worker(device=torch.device("meta")), None, silent)
    assert {device.type for device in stepped} == {"meta"}


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = np.array([one_cycle(step / 100, 0.1) for step in range(101)])
    assert rates.max() == pytest.approx(1.0)
    assert rates.argmax() == 10
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] == pytest.approx(0.0)
