import json
from pathlib import Path

import pytest

from loadtests.bench.peers import arms as module
from loadtests.bench.peers.arms import Arm, Arms
from loadtests.bench.rounds import QUICK
from loadtests.bench.suites.peers import choose
from serving.config import ServeConfig
from serving.local.ray_settings import sizes


@pytest.fixture
def arms(tmp_path: Path) -> Arms:
    return Arms(Path("bundle"), tmp_path, "redis://secret@somewhere", range(9_000, 9_008))


def config(arm: Arm) -> ServeConfig:
    command = list(arm.command)
    return ServeConfig.model_validate(json.loads(Path(command[command.index("--config") + 1]).read_text()))


def test_marquee_has_one_replica_and_outlives_its_suspension(arms: Arms) -> None:
    for size in (*sizes(config(arms.fused())), *sizes(config(arms.apart()))):
        assert (size.autoscaling.min_replicas, size.autoscaling.max_replicas) == (1, 1)
        assert size.health_check_timeout_s == module.SUSPENDED_S


def test_the_two_ways_to_run_marquee_differ_in_where_stages_are(arms: Arms) -> None:
    fused, apart = config(arms.fused()), config(arms.apart())
    [group] = apart.groups.values()
    assert group.stages == ("retrieval", "ranking")
    assert apart.model_copy(update={"groups": fused.groups}) == fused


def test_the_two_ways_to_run_fastapi_differ_in_batching(arms: Arms) -> None:
    plain, batched = arms.fastapi(), arms.fastapi_batched()
    assert batched.command[:-1] == plain.command[:-1]  # the last is the port
    assert batched.env == {**plain.env, module.BATCHED: "1"}


def test_the_redis_password_is_on_no_command_line(arms: Arms) -> None:
    for arm in (arms.fused(), arms.fastapi(), arms.litserve()):
        assert "secret" not in " ".join(map(str, arm.command))
        assert arm.env["REDIS_URL"] == "redis://secret@somewhere"


def test_no_two_arms_share_a_port(arms: Arms) -> None:
    ports = [arm.port for arm in (*choose(arms, QUICK).arms, arms.apart())]
    assert len(set(ports)) == len(ports)


def test_what_is_not_installed_is_left_out_with_a_word(arms: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    chosen = choose(arms, QUICK)
    assert chosen.missing == {module.LITSERVE: "litserve is not installed: pip install '.[bench]'"}
    assert [arm.name for arm in chosen.arms] == [module.FUSED, module.FASTAPI, module.FASTAPI_BATCHED]
