"""A pod that asks the service, as client apps in the cluster do: one request, or a steady load, counted.

It runs the image under test in a namespace of its own, so that it needs no way from outside into the cluster
and outlives every pod of the release. Does not belong here: what is expected of the answers.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.kube import Object, kubectl, ready, until

SCRIPT = Path(__file__).with_name("asking.py")
ANSWER_S = 60.0
"""Seconds for a load to end and tell its count: its last requests time out after 10."""


@dataclass
class Count:
    """What a load came to.

    Attributes:
        failures: what was answered instead of 200, or the error's name → how often.
        versions, tiers: bundle versions and tiers of good answers → how often.
        degraded: good answers that had lost something.
    """

    sent: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, int] = field(default_factory=dict)
    degraded: int = 0

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


@dataclass(frozen=True)
class Client:
    """The pod `name` in `namespace`, asking `url`."""

    namespace: str
    url: str
    name: str = "client"

    def ask(self, path: str, body: Object | None = None) -> tuple[int, Any]:
        """(status, JSON or text) of one request; POST where there is a body."""
        said = self._run("once", path, json.dumps(body))
        answered = json.loads(said)
        return answered["status"], answered["body"]

    def recommend(self, user: str, **more: Any) -> Object:
        """The answer for a user.

        Raises:
            AssertionError: it is no 200.
        """
        status, body = self.ask("/v1/recommendations", {"user_id": user, "count": 5, **more})
        assert status == 200, (status, body)
        answer: Object = body
        return answer

    def each(self, users: Sequence[str | Object], rate: float) -> Count:
        """Asks for each of these users once, `rate` requests a second."""
        return Count(**json.loads(self._run("each", str(rate), json.dumps(users))))

    @contextmanager
    def load(self, users: Sequence[str | Object], rate: float) -> Iterator[Count]:
        """Asks for these users in turn (or for what else a body says of somebody: a session), `rate`
        requests a second, while the block runs; counted when it ends."""
        count = Count()
        arguments = ["load", self.url, str(rate), json.dumps(users)]
        with subprocess.Popen(
            self._exec(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == "asking", "the load did not start"
                yield count
                said, _ = process.communicate(timeout=ANSWER_S)  # the end of its input ends it
            finally:
                if process.poll() is None:
                    process.kill()
        for name, value in json.loads(said).items():
            setattr(count, name, value)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            self._exec(arguments[0], self.url, *arguments[1:]),
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _exec(self, *arguments: str) -> list[str]:
        command = ["python", "-c", SCRIPT.read_text(encoding="utf-8"), *arguments]
        return ["kubectl", "--namespace", self.namespace, "exec", "--stdin", self.name, "--", *command]


def start(namespace: str, image: str, name: str = "client", node: str | None = None) -> None:
    """The pod, on that node where one is named, ready to be asked."""
    container = {
        "name": "client",
        "image": image,
        "command": ["sleep", "infinity"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    if node is not None:
        spec["nodeName"] = node
    kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=json.dumps(pod))
    until(
        "a client",
        lambda: ready(json.loads(kubectl("--namespace", namespace, "get", "pod", name, "--output", "json"))),
        within_s=180,
    )
