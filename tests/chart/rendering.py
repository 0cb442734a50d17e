"""What Helm makes of the chart, as Python objects. Does not belong here: what is asked of them."""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "marquee"
VALUES = sorted([*CHART.glob("ci/*-values.yaml"), *ROOT.glob("k8s/environments/*.yaml")])
REQUIRED = ("--set=config.bundle=s3://models/bundles/first", "--set=redis.existingSecret=marquee-redis")
"""The least that has to be said: everything else has a default."""
HELM_S = 60
"""Seconds for one call of Helm, which takes a fraction of one."""

Object = dict[str, Any]


class _Strict(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]  # chosen at run time
    """Refuses a key that stands twice, of which YAML's readers silently take one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len({str(key) for key in keys}):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key stands twice: {keys}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Object]:
    return [found for found in yaml.load_all(text, Loader=_Strict) if found]


@dataclass(frozen=True)
class Chart:
    """Attributes:
    helm: the binary.
    """

    helm: Path

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.helm, *command], capture_output=True, text=True, timeout=HELM_S, cwd=ROOT, check=False
        )

    def text(self, *given: str | Path) -> str:
        """`helm template` with values files and flags. The test fails where Helm refuses them."""
        return _template(self, given)

    def refusal(self, *given: str) -> str:
        """What Helm says of values that it must not accept."""
        done = self.call("template", "marquee", str(CHART), "--namespace=marquee", *given)
        assert done.returncode != 0, f"{given} was accepted"
        return done.stderr

    def objects(self, *given: str | Path) -> list[Object]:
        """Every object, those that wait as YAML in a ConfigMap included."""
        return [each for found in self.by_template(*given).values() for each in found]

    def by_template(self, *given: str | Path) -> dict[str, list[Object]]:
        """Path below templates/ → the objects it makes. They are shared between tests: change none."""
        return _parsed(self.text(*given))

    def one(self, kind: str, *given: str | Path) -> Object:
        [found] = [each for each in self.objects(*given) if each["kind"] == kind]
        return found


@lru_cache(maxsize=256)
def _template(chart: Chart, given: tuple[str | Path, ...]) -> str:
    flags = [f"--values={each}" if isinstance(each, Path) else each for each in given]
    done = chart.call("template", "marquee", str(CHART), "--namespace=marquee", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


@lru_cache(maxsize=256)
def _parsed(text: str) -> dict[str, list[Object]]:
    made: dict[str, list[Object]] = defaultdict(list)
    for part in re.split(r"^---\n", text, flags=re.M):
        if source := re.match(r"# Source: marquee/templates/(\S+)\n", part):
            for found in documents(part):
                made[source[1]] += [found, *embedded(found)]
    return dict(made)


def embedded(found: Object) -> Iterator[Object]:
    """The objects that a ConfigMap holds as text, for somebody to create later."""
    if found["kind"] == "ConfigMap":
        for name, text in found.get("data", {}).items():
            if name.endswith((".yaml", ".yml")):
                yield from (each for each in documents(text) if {"apiVersion", "kind"} <= each.keys())


def label(values: Path) -> str:
    """A name for a test: environments/dev, ci/cpu."""
    return f"{values.parent.name}/{values.stem.removesuffix('-values')}"


def name(found: Object) -> str:
    metadata = found.get("metadata", {})
    return f"{found['kind']}/{metadata.get('name') or metadata.get('generateName')}"
