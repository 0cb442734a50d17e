"""`marquee rollout watch` as it runs in a Deployment: killed (SIGKILL) in the middle of every kind of call,
with and without its effect, and started again, it ends the rollout as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k8s.client import EVENTS
from k8s.operations import Wish, start
from k8s.plan import Phase, State, Step
from k8s.rayservice import RayServiceTarget
from serving.config import Traffic
from serving.traffic.desired import Desired
from tests.k8s.apiserver import Served, serving
from tests.k8s.loopback import FakePrometheus, running
from tests.k8s.worlds import NEW, OLD

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

KILLS = (
    ("PATCH", "pods", "before"),
    ("PATCH", "pods", "after"),
    ("POST", "events", "before"),
    ("PATCH", "configmaps", "after"),
    ("PATCH", "configmaps", "before"),
    ("POST", "events", "after"),
)


@contextmanager
def controller(kubeconfig: Path, prometheus: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "marquee",
        "rollout",
        "watch",
        "--kubeconfig",
        str(kubeconfig),
    ]
    with subprocess.Popen(
        [*command, "--prometheus", prometheus],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, "the controller ended by itself"
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)


def exposures(kubernetes: Served) -> list[int]:
    """The candidate's weight whenever the traffic object changed."""
    history = kubernetes.api.objects["v1/configmaps", "prod", "marquee-traffic"].history
    tables = [Desired.parse(version.raw["data"]["traffic.json"]).traffic.traffic for version in history]
    weights = [sum(e.weight for e in table if e.bundle == NEW) for table in tables]
    return [new for old, new in zip([-1, *weights], weights, strict=False) if new != old]


@pytest.mark.parametrize(("errors", "end"), [(0.0, Phase.PROMOTED), (0.05, Phase.ROLLED_BACK)])
def test_killed_in_every_call_it_converges(kubernetes: Served, errors: float, end: Phase) -> None:
    serving(kubernetes, {"bundle": OLD, "weight": 100})
    target = RayServiceTarget(kubernetes.cluster(), "prod", "marquee")
    steps = tuple(Step(weight, 1.0) for weight in (5, 25, 50))
    start(target, Wish("canary", NEW, steps, window_s=1.0))

    def state() -> State:
        record = target.load()
        assert record is not None
        return record.rollout.state

    with running(FakePrometheus()) as prometheus:
        prometheus.errors = errors  # type: ignore[attr-defined]  # made here, unknown to the type
        for kill in KILLS[: 6 if end is Phase.PROMOTED else 3]:
            kubernetes.api.stall = kill
            with controller(kubernetes.kubeconfig, prometheus.url) as process:
                until(lambda: kubernetes.api.stalled, process)
                process.send_signal(signal.SIGKILL)
                process.wait(DEADLINE_S)
            kubernetes.api.stalled = False
        with controller(kubernetes.kubeconfig, prometheus.url) as process:
            until(lambda: state().phase.over, process)
            told = {f"marquee.{target.load().rollout.plan.id}.{n}" for n in range(state().decision + 1)}  # type: ignore[union-attr]  # it is there by now

            def all_told() -> bool:
                return {
                    event["metadata"]["name"] for event in kubernetes.cluster().list(EVENTS, "prod")
                } == told

            until(all_told, process)
            process.terminate()
            assert process.wait(DEADLINE_S) == 0

    assert state().phase is end
    assert target.read().traffic == Traffic.of(NEW if end is Phase.PROMOTED else OLD)
    assert exposures(kubernetes) == ([0, 5, 25, 50, 100] if end is Phase.PROMOTED else [0, 5, 0])
