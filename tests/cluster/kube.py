"""kubectl, as the tests of a cluster use it: one call, one object, one wait. The cluster is KUBECONFIG's.

Does not belong here: Helm (`release`), and what asks the service (`client`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

Object = dict[str, Any]
Found = TypeVar("Found")

CALL_S = 60.0
"""Seconds for one kubectl: an API server answers in milliseconds, a busy machine in seconds."""
LOOK_S = 2.0
"""Seconds between two looks at what is waited for."""


class KubectlError(Exception):
    """kubectl failed; the text is its last line."""


def kubectl(*arguments: str, stdin: str | None = None, timeout_s: float = CALL_S) -> str:
    """What kubectl prints.

    Raises:
        KubectlError: it exits with another status than 0, or takes longer.
    """
    try:
        done = subprocess.run(
            ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise KubectlError(f"kubectl {' '.join(arguments)}: no end within {timeout_s:g} s") from None
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[-2_000:]}")
    return done.stdout


def read(kind: str, namespace: str, name: str) -> Object:
    """One object.

    Raises:
        KubectlError: it is not there.
    """
    found: Object = json.loads(kubectl("--namespace", namespace, "get", kind, name, "--output", "json"))
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[Object]:
    """The objects of a kind (or of several, joined by commas) with these labels."""
    chosen = ["--selector", selector] if selector else []
    text = kubectl("--namespace", namespace, "get", kind, *chosen, "--output", "json")
    listed: list[Object] = json.loads(text)["items"]
    return listed


def apply(namespace: str, *objects: Object) -> None:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=document)


def ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def until(what: str, look: Callable[[], Found], within_s: float, every_s: float = LOOK_S) -> Found:
    """The first thing found that counts as true. A look that fails is a look that found nothing.

    Raises:
        AssertionError: nothing came; the text has what was seen last.
    """
    end, last = time.monotonic() + within_s, "nothing"
    while True:
        try:
            if found := look():
                return found
            last = repr(found)
        except Exception as error:  # what is asked may be starting or ending just now
            last = repr(error)
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {within_s:g} s; last seen: {last[-2_000:]}")
        time.sleep(every_s)
