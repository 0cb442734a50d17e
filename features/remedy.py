"""What to do where something is missing that another command makes: not the same on a laptop and in a
cluster. Standard library only."""

from __future__ import annotations

import os

RELEASE = "MARQUEE_RELEASE"
"""Set by the chart in its pods: the Helm release's name."""


def made_by(*commands: str) -> str:
    """The end of a message about what these `marquee` commands make, one after the other."""
    release = os.environ.get(RELEASE)
    if not release:
        return "run " + ", then ".join(f"`marquee {command}`" for command in commands)
    labels = f"app.kubernetes.io/instance={release},app.kubernetes.io/component=bootstrap"
    return (
        "in a cluster the bootstrap Job makes it (bootstrap.enabled=true), on the workspace claim: "
        f"`marquee cluster status` and `kubectl logs -l {labels}` show how far it is"
    )
