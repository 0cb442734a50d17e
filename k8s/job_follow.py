"""Follows a training to its end: what it waits for, then its log, then how it ended.

Does not belong here: what a state means (`k8s.job_state`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from k8s.client import RAY_JOBS, Cluster
from k8s.errors import Unavailable
from k8s.job_state import Job, look, submitters
from k8s.jobs import SILENCE_S

LOOK_S = 3.0
"""s between two looks: a pod takes seconds to start, an image minutes to come."""

ENDED_S = 120.0
"""s after the end of its log within which KubeRay says how a job ended; it looks every few seconds."""


def following(cluster: Cluster, namespace: str, name: str, said: Callable[[str], None]) -> Job:
    """Calls `said` with every change of what the job waits for, and with the lines of its log.

    Returns:
        how it stood at last: over, unless KubeRay said nothing for `ENDED_S` after its log had ended.

    Raises:
        ControlError: the cluster cannot be asked, or the job is gone.
    """
    last, shown, until = "", set[str](), float("inf")
    while True:
        try:
            found = look(cluster, namespace, cluster.get(RAY_JOBS, namespace, name))
            state = f"{found.deployment or 'new'}{f': {found.message}' if found.message else ''}"
            if found.over or time.monotonic() > until:
                return found
            if found.deployment != "Running":  # or tried again, with a log of its own
                until = float("inf")
            if state != last:
                said(f"{name} is {state}")
                last = state
            for pod in submitters(cluster, namespace, name):
                key = pod["metadata"]["name"]
                if key not in shown and pod.get("status", {}).get("phase") in (
                    "Running",
                    "Succeeded",
                    "Failed",
                ):
                    shown.add(key)
                    for line in cluster.log(namespace, key, follow=True, tail=None, seconds=SILENCE_S):
                        said(line)
                    until = time.monotonic() + ENDED_S
        except Unavailable as error:
            said(f"waiting: {error}")
        time.sleep(LOOK_S)
