import json
from pathlib import Path

import pytest

from loadtests.bench.peers import arms as module
from loadtests.bench.peers.arms import Arm, Arms
from loadtests.bench.peers.environments import NoEnvironment
from loadtests.bench.rounds import QUICK
from loadtests.bench.suites.peers import choose
from serving.config import Placement, ServeConfig


@pytest.fixture
def arms(tmp_path: Path) -> Arms:
    return Arms(Path("bundle"), tmp_path, "redis://secret@somewhere", 2, range(9_000, 9_024))


def config(arm: Arm) -> ServeConfig:
    command = list(arm.programs[-1].command)
    return ServeConfig.model_validate(json.loads(Path(command[command.index("--config") + 1]).read_text()))


def test_marquee_runs_as_many_workers_as_the_peers(arms: Arms) -> None:
    sizes = config(arms.fused()).deployments
    assert (sizes.ingress.autoscaling.min_replicas, sizes.ingress.autoscaling.max_replicas) == (2, 2)
    command = arms.fastapi().programs[-1].command
    assert command[command.index("--workers") + 1] == "2"


def test_the_three_ways_to_run_marquee_differ_in_one_thing_each(arms: Arms) -> None:
    fused, distributed, cached = config(arms.fused()), config(arms.distributed()), config(arms.cached())
    apart = {stage for stage, where in distributed.placement if where is Placement.DEPLOYMENT}
    assert apart == {"retrieval", "ranking"}
    assert distributed.model_copy(update={"placement": fused.placement}) == fused
    assert cached.cache.items > 0
    assert cached.model_copy(update={"cache": fused.cache}) == fused


def test_the_redis_password_is_on_no_command_line(arms: Arms) -> None:
    for arm in (arms.fused(), arms.fastapi(), arms.noop(), arms.litserve(), arms.bare(Path("bodies"))):
        assert "secret" not in " ".join(map(str, arm.programs[-1].command))
        assert arm.programs[-1].env["REDIS_URL"] == "redis://secret@somewhere"


def test_no_two_arms_share_a_port(arms: Arms) -> None:
    chosen = choose(arms, QUICK)
    ports = [arm.port for arm in (*chosen.peers, chosen.noop, arms.cached())]
    assert len(set(ports)) == len(ports)


def test_what_is_not_installed_is_left_out_with_a_word(arms: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(package: str) -> None:
        raise NoEnvironment(f"{package} is not installed")

    monkeypatch.setattr(module, "_needs", needs)
    chosen = choose(arms, QUICK)
    assert chosen.missing == {"LitServe": "litserve is not installed"}
    assert [arm.name for arm in chosen.peers] == [module.FUSED, module.FASTAPI]
