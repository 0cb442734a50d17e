"""What `/metrics` answers where several replicas of a machine write their metrics into one folder.

prometheus_client writes there when PROMETHEUS_MULTIPROC_DIR is set before it is imported (its documentation,
"Multiprocess Mode"). Counters and histograms are then totals over all replicas, whichever of them is asked;
gauges are this replica's own, because a file outlives what it measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.prometheus import PrometheusRecorder


class _Total(Collector):
    def __init__(self, own: CollectorRegistry, folder: Path) -> None:
        self._own = own
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        files: Iterable[Metric] = self._files.collect()  # type: ignore[no-untyped-call]
        yield from (family for family in files if family.type != "gauge")
        yield from (family for family in self._own.collect() if family.type == "gauge")


def exposition(recorder: PrometheusRecorder, folder: Path | None) -> Callable[[], bytes]:
    """The totals of all replicas that write into the folder, or without one the recorder's own metrics."""
    if folder is None:
        return recorder.exposition
    total = CollectorRegistry()
    total.register(_Total(recorder.registry, folder))
    return lambda: generate_latest(total)
