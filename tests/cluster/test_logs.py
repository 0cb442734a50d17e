"""`kubectl logs` of a worker is for operators: our lines, and Ray's warnings and errors."""

from __future__ import annotations

import json
import re

from tests.cluster.conftest import Living
from tests.cluster.kube import kubectl
from tests.cluster.lives import workers

CHATTER = re.compile(
    r"^\[[^\]]* I [^\]]*\] (?!logging\.cc)|\bINFO \(\w+\)|^\[state-dump\]|Event stats:|Global stats:"
)
"""Information of Ray's own processes: of its raylet and workers in C++, of its agents, and their statistics.
Not the line with which each process says the level it logs at."""


def test_a_worker_s_log_is_ours_and_not_ray_s_statistics(living: Living) -> None:
    for pod in workers(living.release):
        name = pod["metadata"]["name"]
        text = kubectl("--namespace", living.release.namespace, "logs", name, "--container=ray")
        lines = text.splitlines()
        ours = [json.loads(line) for line in lines if line.startswith("{")]
        chatter = [line for line in lines if CHATTER.search(line)]
        print(f"{name}: {len(lines)} lines, {len(ours)} ours, {len(chatter)} of Ray's information")
        assert any(line["message"].startswith("in service: ") for line in ours)
        assert chatter == []
