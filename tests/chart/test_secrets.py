"""No secret is rendered: what a manifest holds is in a repository, in Helm's history and in etcd."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.pods import pods
from tests.chart.rendering import REQUIRED, Chart, Object, name

NAME = r"password|passwd|requirepass|masterauth|secret|token|credential|(private|access|api).?key|auth$"
SECRET = re.compile(NAME, re.I)
"""A name of something secret."""
HARMLESS = re.compile(r"^(|/\S*|true|false|\d+|token|\$\(\w+\)|\$\{?\w+\}?)$")
"""Values that are none: nothing, a path, a switch, a mode, a reference to a variable."""
IN_URL = re.compile(r"\w+://[^/\s:@]*:(?!\$)[^@\s/]+@")
"""A URL with a password in it, which is not a reference."""
ASSIGNED = re.compile(rf"[\w-]*({NAME})[\w-]*\s*[=: ]\s*[\"']?(?P<value>[^\s\"',]+)", re.I)
"""Such a name with a value, in a file or on a command line."""


def plaintext(found: Object) -> list[str]:
    """Where an object holds what looks like a secret."""
    return [*_whole(found), *_in_pods(found), *_in_urls(found, name(found))]


def _whole(found: Object) -> Iterator[str]:
    if found["kind"] == "Secret":
        yield f"{name(found)} is a Secret"
    if found["kind"] == "ConfigMap":
        for key, text in found.get("data", {}).items():
            if SECRET.search(key) and not HARMLESS.match(text):
                yield f"{name(found)} {key}"
            if not key.endswith((".json", ".yaml")):  # dashboards; objects in YAML are looked into as such
                yield from (f"{name(found)} {key}: {each}" for each in _settings(text))


def _in_pods(found: Object) -> Iterator[str]:
    for pod in pods(found):
        for where, container in pod.containers():
            for variable in container.get("env") or []:
                if SECRET.search(variable["name"]) and not HARMLESS.match(variable.get("value", "")):
                    yield f"{where} {variable['name']}"
            for words in (container.get("command") or [], container.get("args") or []):
                yield from (f"{where}: {each}" for each in _settings(" ".join(map(str, words))))


def _settings(text: str) -> Iterator[str]:
    """`--password=x`, `requirepass x`, `token: x` in a text, comments left out."""
    bare = re.sub(r"(^|\s)#.*", "", text)
    for setting in ASSIGNED.finditer(bare):
        if not HARMLESS.match(setting["value"]) and "%s" not in setting["value"]:
            yield setting[0]


def _in_urls(node: Any, where: str) -> Iterator[str]:
    if isinstance(node, str) and IN_URL.search(node):
        yield f"{where} has a URL with a password"
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    for key, each in children:
        yield from _in_urls(each, f"{where}.{key}")


def pod(**container: Any) -> Object:
    return {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", **container}]}}


def config(**data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


@pytest.mark.parametrize(
    "found",
    [
        {"kind": "Secret", "metadata": {"name": "a"}, "stringData": {"a": "b"}},
        pod(env=[{"name": "REDIS_PASSWORD", "value": "hunter2"}]),
        pod(env=[{"name": "AWS_SECRET_ACCESS_KEY", "value": "abc"}]),
        pod(env=[{"name": "REDIS_URL", "value": "redis://user:hunter2@host:6379"}]),
        pod(args=["--password=hunter2"]),
        pod(command=["valkey-server", "--requirepass", "hunter2"]),
        config(password="hunter2"),
        config(**{"valkey.conf": "port 6379\nrequirepass hunter2\n"}),
        config(**{"app.ini": "admin-token = abcdef"}),
    ],
)
def test_a_seeded_secret_is_found(found: Object) -> None:
    assert plaintext(found)


@pytest.mark.parametrize(
    "found",
    [
        pod(env=[{"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]),
        pod(env=[{"name": "REDIS_URL", "value": "redis://user:$(REDIS_PASSWORD)@host:6379"}]),
        pod(env=[{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/run/key.json"}]),
        pod(env=[{"name": "RAY_AUTH_MODE", "value": "token"}]),
        config(**{"valkey.conf": "# The password comes from a Secret.\nport 6379\n"}),
    ],
)
def test_a_reference_is_no_secret(found: Object) -> None:
    assert plaintext(found) == []


def test_nothing_secret_is_rendered(objects: list[Object]) -> None:
    assert [fault for each in objects for fault in plaintext(each)] == []


def test_there_is_no_value_to_write_a_secret_into(chart: Chart) -> None:
    for value in ("redis.password", "redis.external.password", "admin.token", "ray.auth.token"):
        assert value.split(".")[-1] in chart.refusal(*REQUIRED, f"--set={value}=hunter2")
