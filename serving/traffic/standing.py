"""What a replica says of its own traffic, as gauges that the pod's exporter shows: the table in service, what
it refused and why, what it waits for. The control plane believes these, not what it wrote (`k8s.reports`).

Does not belong here: how the bundles do (`serving.traffic.bundle_metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.traffic.desired import IN_SERVICE, REFUSED, WAITING
from serving.traffic.following import Follower
from serving.traffic.table import InService

LONGEST = 400
"""Characters of a reason in a label; what follows the first few hundred helps nobody."""


class Standing(Collector):
    """Series are as few as the bundles of one traffic; their labels change with it."""

    def __init__(self, service: InService[Any], follower: Follower) -> None:
        self._service, self._follower = service, follower

    def collect(self) -> Iterator[Metric]:
        ratio = GaugeMetricFamily(
            IN_SERVICE,
            "Share of the users by bundle, as this replica has it.",
            labels=("url", "bundle", "role"),
        )
        refused = GaugeMetricFamily(REFUSED, "Bundles this replica did not take.", labels=("url", "reason"))
        waiting = GaugeMetricFamily(WAITING, "What keeps this replica from serving.", labels=("reason",))
        if (table := self._service.table) is not None:
            for at, (entry, held) in enumerate(zip(table.traffic.traffic, table.held, strict=True)):
                role = "shadow" if entry.shadow else "canary" if at else "production"
                ratio.add_metric((entry.bundle, held.version, role), entry.weight / 100)
        if self._follower.refusal:
            refused.add_metric(("", _short(self._follower.refusal)), 1)
        for url, reason in self._service.refusals.items():
            refused.add_metric((url, _short(reason)), 1)
        if self._follower.waiting:
            waiting.add_metric((_short(self._follower.waiting),), 1)
        yield from (ratio, refused, waiting)


def _short(reason: str) -> str:
    return " ".join(reason.split())[:LONGEST]
