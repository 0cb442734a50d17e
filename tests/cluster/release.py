"""One installation of the chart: Helm's verbs on it, its pods, its bundle in service.

Does not belong here: requests to it (`client`).
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from k8s.helm import helm
from tests.cluster.kube import Object, items, read

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "marquee"
FRACTION = re.compile(r"=\d+\.\d+$")
"""A setting that Helm's `--set` would take for a text."""
PATIENT = tuple(f"config.budgets.{of}" for of in ("request=4000", "source=2000", "ranker=1000"))
"""ms, of every installation: whether stages answer in time is not asked on two cores for three nodes, where a
cluster that starts takes all of both for a second. Features keep their budget: their store is taken away."""
HELM_S = 1_200.0
"""Seconds after which a Helm command counts as hanging; each has a `--timeout` below."""


def image() -> tuple[str, str]:
    """(repository, tag) of the image under test: MARQUEE_IMAGE, else the name that `make image` gives it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    repository, _, tag = os.environ.get("MARQUEE_IMAGE", f"marquee/marquee:{version}").rpartition(":")
    return repository, tag


class HelmError(Exception):
    """Helm failed; the text is what it said."""


@dataclass(frozen=True)
class Release:
    """Attributes:
    values: a values file that every install and upgrade starts from.
    binary: Helm; the one that `k8s.helm` finds where unset.
    """

    namespace: str
    name: str = "marquee"
    values: Path = ROOT / "k8s" / "environments" / "dev.yaml"
    binary: str = ""

    def helm(self, *arguments: str) -> str:
        """What Helm prints.

        Raises:
            HelmError: it exits with another status than 0, or takes longer than `HELM_S`.
        """
        command = [self.binary or str(helm()), *arguments, "--namespace", self.namespace]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=HELM_S)
        except subprocess.TimeoutExpired:
            raise HelmError(f"{' '.join(command)}: no end within {HELM_S:g} s") from None
        if done.returncode:
            raise HelmError(f"{' '.join(command)}: {done.stderr.strip()[-4_000:]}")
        return done.stdout

    def install(self, *settings: str, wait: bool = True, timeout: str = "10m") -> str:
        """`helm install` with the image under test and `--set` for each of the settings."""
        return self.helm("install", self.name, *self._chart(settings), *self._waits(wait, timeout))

    def upgrade(self, *settings: str, wait: bool = True, timeout: str = "10m") -> str:
        return self.helm("upgrade", self.name, *self._chart(settings), *self._waits(wait, timeout))

    def rollback(self, revision: int, *, wait: bool = True, timeout: str = "10m") -> str:
        return self.helm("rollback", self.name, str(revision), *self._waits(wait, timeout))

    def uninstall(self, timeout: str = "5m") -> str:
        return self.helm("uninstall", self.name, "--wait", "--timeout", timeout)

    def service(self) -> Object:
        """The RayService."""
        return read("rayservice", self.namespace, self.name)

    def pods(self, component: str = "") -> list[Object]:
        """Those of the release, or of one component of it (`head`, `worker-cpu`, `redis`, …)."""
        selector = f"app.kubernetes.io/instance={self.name}"
        if component:
            selector += f",app.kubernetes.io/component={component}"
        return items("pods", self.namespace, selector)

    def staying(self, component: str) -> list[Object]:
        """Its pods that are not being deleted."""
        return [pod for pod in self.pods(component) if "deletionTimestamp" not in pod["metadata"]]

    def _chart(self, settings: tuple[str, ...]) -> list[str]:
        repository, tag = image()
        made = ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]
        made += [
            word
            for one in (*PATIENT, *settings)
            for word in ("--set-json" if FRACTION.search(one) else "--set", one)
        ]
        return [str(CHART), "--values", str(self.values), *made]

    @staticmethod
    def _waits(wait: bool, timeout: str) -> list[str]:
        return [*(["--wait"] if wait else []), "--timeout", timeout]
