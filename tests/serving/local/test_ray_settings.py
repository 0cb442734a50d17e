"""A run's own settings for Ray, and reservations that fit the machine."""

import os
from pathlib import Path
from typing import Any

import pytest

from serving.config import Autoscaling, GroupConfig, IngressConfig, ServeConfig
from serving.local.ray_settings import LOGICAL_CPUS, environment, fitted, ray_environment, sizes


def test_two_runs_have_neither_ports_nor_files_nor_tokens_in_common(tmp_path: Path) -> None:
    made = []
    for name, ports in (("a", range(20_000, 20_025)), ("b", range(20_025, 20_050))):
        folder = tmp_path / name
        folder.mkdir()
        made.append(ray_environment(folder, ports))
    first, second = made
    own = {name for name in first if "PORT" in name or "_LOC" in name or "PATH" in name or "TOKEN" in name}
    assert {name for name in own if first[name] == second[name]} == set()
    assert {name for name in own if name.endswith("_PORT")} >= {"RAY_SERVE_HAPROXY_STATS_PORT"}


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_A", "before")
    monkeypatch.delenv("MARQUEE_B", raising=False)
    with environment({"MARQUEE_A": "1", "MARQUEE_B": "2"}):
        assert (os.environ["MARQUEE_A"], os.environ["MARQUEE_B"]) == ("1", "2")
    assert os.environ["MARQUEE_A"] == "before"
    assert "MARQUEE_B" not in os.environ


def test_a_configuration_that_fits_is_left_alone() -> None:
    config = ServeConfig(bundle="b")
    assert fitted(config, LOGICAL_CPUS) is config


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_replica_of_a_distributed_application_fits_on_one_machine(replicas: int) -> None:
    on_gpu: dict[str, Any] = {
        "runtime": "torch",
        "num_gpus": 1,
        "autoscaling": Autoscaling(max_replicas=replicas),
    }
    config = ServeConfig(
        bundle="b",
        ingress=IngressConfig(**on_gpu),
        groups={
            "accelerated": GroupConfig(stages=("retrieval", "ranking"), **on_gpu),
            "after": GroupConfig(stages=("diversity", "explain"), **on_gpu),
        },
    )
    each = sizes(fit := fitted(config, LOGICAL_CPUS))
    assert 0 < sum(one.num_cpus * replicas for one in each) <= LOGICAL_CPUS
    assert {one.num_gpus for one in each} == {1}
    assert {name: group.stages for name, group in fit.groups.items()} == {
        name: group.stages for name, group in config.groups.items()
    }
