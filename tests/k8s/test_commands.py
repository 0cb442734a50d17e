"""The commands, as they are typed: tables for people, JSON for scripts, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import marquee
from k8s.client import CONFIG_MAPS, EVENTS, PODS, RAY_JOBS, RAY_SERVICES
from k8s.guardrails import Guardrails
from k8s.plan import DEFAULT_STEPS
from k8s.wishes import NAMES, parse_guardrails, parse_steps, write_steps
from serving.config import Traffic
from tests.k8s.apiserver import Served, ray_service, serving
from tests.k8s.loopback import TOKEN, FakeMarquee, FakePrometheus, running
from tests.k8s.worlds import NEW, OLD

QUICK = ("--steps", "5:1s,50:1s", "--window", "1s")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "control-plane.md"


def run(*arguments: str) -> Result:
    environment = {"MARQUEE_ADMIN_TOKEN": TOKEN, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(marquee.build(arguments[0]), list(arguments), env=environment)


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def server() -> Iterator[FakeMarquee]:
    with running(FakeMarquee({"bundle": OLD, "weight": 100})) as fake:
        assert isinstance(fake, FakeMarquee)
        yield fake


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    with running(FakePrometheus()) as fake:
        assert isinstance(fake, FakePrometheus)
        yield fake


class TestLocal:
    def test_a_good_canary_ends_with_0(self, server: FakeMarquee, tmp_path: Path) -> None:
        where = ("--url", server.url, "--home", str(tmp_path))
        result = run("rollout", "canary", NEW, *QUICK, *where)
        assert result.exit_code == 0, result.output
        assert "Promoted v2" in result.stdout
        assert server.traffic == [{"bundle": NEW, "weight": 100}]
        assert run("rollout", "rollback", *where).exit_code == 0
        assert server.traffic == [{"bundle": OLD, "weight": 100}]

    def test_a_bad_one_ends_with_1(self, server: FakeMarquee, tmp_path: Path) -> None:
        server.errors = 0.05
        where = ("--url", server.url, "--home", str(tmp_path), "-o", "json")
        result = run("rollout", "canary", NEW, *QUICK, *where)
        assert result.exit_code == 1
        last = documents(result)[-1]
        assert (last["phase"], last["candidate_version"]) == ("RolledBack", "v2")
        assert "error rate" in last["message"]
        [status] = documents(run("rollout", "status", *where))
        assert status["traffic"] == [{"bundle": OLD, "weight": 100}]
        assert status["rollout"]["phase"] == "RolledBack"

    def test_a_shadow(self, server: FakeMarquee, tmp_path: Path) -> None:
        where = ("--url", server.url, "--home", str(tmp_path))
        result = run("rollout", "shadow", NEW, "--duration", "1s", "--window", "1s", *where)
        assert result.exit_code == 0, result.output
        assert "Passed v2" in result.stdout

    def test_detached_it_only_writes_the_plan(self, server: FakeMarquee, tmp_path: Path) -> None:
        where = ("--url", server.url, "--home", str(tmp_path))
        assert run("rollout", "canary", NEW, "--detach", *where).exit_code == 0
        assert server.seen == []
        text = run("rollout", "status", *where).stdout
        assert "Progressing" in text
        assert "v1 → v2" in text
        assert run("rollout", "canary", NEW, *where).exit_code == 1
        assert run("rollout", "promote", *where).exit_code == 0
        assert server.traffic == [{"bundle": NEW, "weight": 100}]

    def test_ctrl_c_ends_the_command_and_not_the_rollout(
        self, server: FakeMarquee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("k8s.driver.Driver.turn", interrupted)
        where = ("--url", server.url, "--home", str(tmp_path))
        result = run("rollout", "canary", NEW, *where)
        assert result.exit_code == 130
        assert "marquee rollout watch" in result.stderr
        [status] = documents(run("rollout", "status", *where, "-o", "json"))
        assert status["rollout"]["phase"] == "Progressing"

    def test_no_server_is_one_line(self, tmp_path: Path) -> None:
        result = run("rollout", "status", "--url", "http://127.0.0.1:1", "--home", str(tmp_path))
        assert result.exit_code == 1
        [line] = result.stderr.strip().splitlines()
        assert "marquee serve" in line


class TestCluster:
    @pytest.fixture
    def where(self, kubernetes: Served) -> tuple[str, ...]:
        serving(kubernetes, {"bundle": OLD, "weight": 100})
        return ("--kubeconfig", str(kubernetes.kubeconfig))

    @pytest.mark.parametrize(("errors", "code"), [(0.0, 0), (0.05, 1)])
    def test_a_canary(
        self, kubernetes: Served, prometheus: FakePrometheus, where: tuple[str, ...], errors: float, code: int
    ) -> None:
        prometheus.errors = errors
        result = run("rollout", "canary", NEW, *QUICK, *where, "--prometheus", prometheus.url)
        assert result.exit_code == code, result.output
        kept = kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-traffic")["data"]["traffic.json"]
        assert json.loads(kept)["traffic"] == [{"bundle": OLD if code else NEW, "weight": 100}]
        assert kubernetes.cluster().list(EVENTS, "prod")
        assert all('namespace="prod"' in query for query in prometheus.queries)

    def test_the_first_bundle_comes_in_once(self, kubernetes: Served) -> None:
        kubernetes.put(RAY_SERVICES, "marquee", ray_service())
        where = ("--kubeconfig", str(kubernetes.kubeconfig))
        assert f"all traffic goes to {OLD}" in run("rollout", "first", OLD, *where).stdout
        again = run("rollout", "first", NEW, *where)
        assert again.exit_code == 0
        assert f"{OLD} is in production already; nothing is changed" in again.stdout
        [status] = documents(run("rollout", "status", *where, "-o", "json"))
        assert status["traffic"] == [{"bundle": OLD, "weight": 100}]

    def test_nobody_to_ask_is_a_usage_error(self, where: tuple[str, ...]) -> None:
        result = run("rollout", "canary", NEW, *where)
        assert result.exit_code == 2
        assert "--prometheus" in result.stderr

    def test_status_for_people_and_for_scripts(self, kubernetes: Served, where: tuple[str, ...]) -> None:
        labels = {"ray.io/group": "gpu"}
        kubernetes.put(PODS, "w", {"metadata": {"labels": labels}, "status": {"phase": "Pending"}})
        text = run("cluster", "status", *where).stdout
        assert "RayService marquee" in text
        assert "v1 100%" in text
        [found] = documents(run("cluster", "status", *where, "-o", "json"))
        assert {"role": "gpu", "phase": "Pending", "count": 1} in found["pods"]
        assert found["services"][0]["traffic"] == [{"bundle": OLD, "weight": 100}]

    def test_trainings(self, kubernetes: Served, where: tuple[str, ...], tmp_path: Path) -> None:
        assert run("train", "submit", *where).exit_code == 1
        plain = ("--image", "a:1", "--claim", "c", "--gpus", "1")
        [made] = documents(run("train", "submit", *plain, *where, "-o", "json"))
        [[job]] = [json.loads(run("train", "list", *where, "-o", "json").stdout)]
        assert job["name"] == made["name"]
        assert made["name"] in run("train", "list", *where).stdout
        assert run("train", "cancel", made["name"], *where).exit_code == 0
        assert kubernetes.cluster().get(RAY_JOBS, "prod", made["name"])["spec"]["suspend"]
        manifest = tmp_path / "rayjob.yaml"
        manifest.write_text(json.dumps({"kind": "RayJob"}))
        assert run("train", "submit", "--manifest", str(manifest), *where).exit_code == 1

    def test_no_cluster_is_one_line(self, tmp_path: Path) -> None:
        result = run("cluster", "status", "--kubeconfig", str(tmp_path / "missing"))
        assert result.exit_code == 1
        [line] = result.stderr.strip().splitlines()
        assert "KUBECONFIG" in line


@pytest.mark.parametrize(
    "wrong",
    [
        ("--steps", "5"),
        ("--steps", "five:1m"),
        ("--steps", "50:10m,5:10m"),
        ("--steps", "5:1s"),
        ("--window", "soon"),
        ("-g", "speed=1"),
        ("-g", "psi"),
        ("-g", "psi=nan"),
    ],
)
def test_a_wrong_command_line_ends_with_2(
    server: FakeMarquee, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    result = run("rollout", "canary", NEW, *wrong, "--url", server.url, "--home", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert server.traffic == [{"bundle": OLD, "weight": 100}]


def test_steps_and_guardrails_are_read() -> None:
    assert parse_steps(write_steps(DEFAULT_STEPS)) == DEFAULT_STEPS
    assert [step.seconds for step in parse_steps("1:90, 2:1.5m,3:1h")] == [90.0, 90.0, 3_600.0]
    assert parse_guardrails(["psi=0.5", "error-rate=0"]) == Guardrails(psi=0.5, error_rate=0.0)


def test_the_documents_name_every_guardrail_with_its_default() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` | {getattr(Guardrails(), name):g} |" in text


def test_train_alone_still_trains_here(tmp_path: Path) -> None:
    result = run("train", "--home", str(tmp_path))
    assert result.exit_code == 1
    assert "run `marquee data`" in result.stderr
    assert "submit" in run("train", "--help").stdout


def test_the_traffic_of_a_rollout_is_what_serving_reads() -> None:
    assert Traffic.model_validate({"traffic": [{"bundle": OLD, "weight": 100}]}) == Traffic.of(OLD)
