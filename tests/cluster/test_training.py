"""`marquee train submit` ends with a published bundle that can be rolled out; what fails says why."""

from __future__ import annotations

import json

from tests.cluster.bootstrapped import WHOLE_S, in_store, wanted
from tests.cluster.conftest import marquee
from tests.cluster.kube import until
from tests.cluster.release import Release

SAID_S = 300.0
"""Seconds until something is seen that takes seconds on a machine with nothing else to do."""


def submit(release: Release, *options: str, timeout_s: float = 120) -> tuple[int, str]:
    """Exit status, and what it said."""
    done = marquee(
        "train", "submit", "--release", release.name, "--namespace", release.namespace, *options,
        timeout_s=timeout_s,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def listed(release: Release) -> dict[str, dict[str, str]]:
    """Name → a training, as `marquee train list` says it."""
    done = marquee(
        "train", "list", "--release", release.name, "--namespace", release.namespace, "--output=json"
    )
    assert done.returncode == 0, done.stderr
    return {job["name"]: job for job in json.loads(done.stdout)}


def test_a_training_is_published_and_can_be_a_canary(bootstrapped: Release) -> None:
    until("a first bundle", lambda: wanted(bootstrapped), WHOLE_S)
    before = in_store(bootstrapped)
    code, said = submit(bootstrapped, "--follow", "--entrypoint", "marquee train --seed 7", timeout_s=WHOLE_S)
    assert code == 0, said
    [new] = in_store(bootstrapped) - before
    assert f"Published as /bundles/{new}" in said
    place = ("--name", bootstrapped.name, "--namespace", bootstrapped.namespace)
    done = marquee("rollout", "canary", f"/bundles/{new}", "--steps", "20:1h", "--detach", *place)
    assert done.returncode == 0, done.stderr
    until("a canary", lambda: (f"/bundles/{new}", 20) in wanted(bootstrapped), SAID_S)
    done = marquee("rollout", "rollback", *place)
    assert done.returncode == 0, done.stderr
    until("it gone", lambda: [weight for _, weight in wanted(bootstrapped)] == [100], SAID_S)


def test_one_that_no_node_takes_says_what_the_scheduler_says(bootstrapped: Release) -> None:
    code, said = submit(bootstrapped, "--cpus", "4000")
    assert code == 0, said
    name = said.split()[1].rstrip(";")

    def message() -> str:
        text = listed(bootstrapped)[name]["message"]
        return text if "no node takes it" in text else ""

    assert "cpu" in until("the scheduler's reason", message, SAID_S)
    marquee("train", "cancel", name, "--delete", "--namespace", bootstrapped.namespace)


def test_one_over_its_memory_limit_names_pod_and_limit_and_what_to_do(bootstrapped: Release) -> None:
    """It may come through all the same: the RayJob tries again from the last epoch."""
    until("a first bundle", lambda: wanted(bootstrapped), WHOLE_S)
    more = ["--memory", "600Mi", "--entrypoint", "marquee train --seed 9"]
    _, said = submit(bootstrapped, "--follow", *more, timeout_s=WHOLE_S)
    failed = [line for line in said.splitlines() if line.startswith("error training workers failed: ")]
    assert failed, said
    for line in failed:
        assert "in pod marquee-train-" in line, said
        assert "(memory limit 0.5" in line, said
        assert "raise retrain.worker.resources.limits.memory" in line, said
