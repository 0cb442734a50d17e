"""The metrics of several replicas of a machine or pod that write into one folder.

prometheus_client writes counters and histograms there when PROMETHEUS_MULTIPROC_DIR is set before it is
imported (its documentation, "Multiprocess Mode"). They are read as totals over all replicas, those that ended
included. Gauges are another matter, because a file outlives what it measured and no label can be taken out of
one: each replica keeps its own in a text file, which counts while it is fresh.

`/metrics` of a replica: totals, and its own gauges. `marquee exporter`: totals, and the gauges of every live
replica, with the label `replica`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from serving.observe.prometheus import PrometheusRecorder
from training.manifest import write_atomically

log = logging.getLogger(__name__)

PERIOD_S = 5.0
"""Seconds between two writes of a replica's gauges: below any usual scrape interval, and the few milliseconds
that reading the windows takes are then nothing."""

FRESH_S = 4 * PERIOD_S
"""Seconds after which a file's replica is taken to have ended; a busy one may miss a few writes."""

SUFFIX = ".gauges"

IN_TRAFFIC = "marquee_bundle_weight_ratio"
"""The gauge that names every bundle in traffic."""


class _Own(Collector):
    """The gauges of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from (family for family in self._registry.collect() if family.type == "gauge")


class _Files(Collector):
    """The gauges of every replica that writes here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            for family in _read(path):
                joined = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    joined.add_sample(sample.name, {**sample.labels, "replica": path.stem}, sample.value)
        yield from families.values()


class Totals(Collector):
    """Counters and histograms over the folder's replicas, beside the gauges of `gauges`. Files keep series of
    bundles that left the traffic; those are left out here."""

    def __init__(self, folder: Path, gauges: Collector) -> None:
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]  # prometheus_client has no types for it
        self._gauges = gauges

    @classmethod
    def of_replicas(cls, folder: Path) -> Totals:
        return cls(folder, _Files(folder))

    def collect(self) -> Iterator[Metric]:
        gauges = list(self._gauges.collect())
        there = {s.labels["bundle"] for family in gauges if family.name == IN_TRAFFIC for s in family.samples}
        files: Iterable[Metric] = self._files.collect()  # type: ignore[no-untyped-call]  # prometheus_client has no types for it
        for family in files:
            if family.type != "gauge":
                family.samples = [s for s in family.samples if s.labels.get("bundle") in {None, *there}]
                yield family
        yield from gauges


def exposition(recorder: PrometheusRecorder, folder: Path | None) -> Callable[[], bytes]:
    """The totals of all replicas that write into the folder, or without one the recorder's own metrics."""
    if folder is None:
        return recorder.exposition
    total = CollectorRegistry()
    total.register(Totals(folder, _Own(recorder.registry)))
    return lambda: generate_latest(total)


@dataclass(frozen=True, slots=True)
class GaugeFile:
    """The gauges of this process, for others to read."""

    registry: CollectorRegistry
    folder: Path
    _due: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def keep_written(self) -> None:
        """Writes now and then, and when it is asked to, until it is cancelled."""
        try:
            while True:
                self._due.clear()
                try:
                    await asyncio.to_thread(self.write)
                except OSError as error:
                    log.warning("gauges cannot be written: %s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), PERIOD_S)
        finally:
            self._path.unlink(missing_ok=True)

    def soon(self) -> None:
        """Something has changed that others wait to see; called from the event loop."""
        self._due.set()

    def write(self) -> None:
        for path in self.folder.glob(f"*{SUFFIX}"):
            if not _fresh(path):
                path.unlink(missing_ok=True)
        own = CollectorRegistry()
        own.register(_Own(self.registry))
        write_atomically(self._path, generate_latest(own).decode())

    @property
    def _path(self) -> Path:
        return self.folder / f"{os.getpid()}{SUFFIX}"


def _read(path: Path) -> Iterable[Metric]:
    """Nothing where the file's replica has ended; it may be removed at any moment."""
    try:
        return list(text_string_to_metric_families(path.read_text())) if _fresh(path) else ()
    except FileNotFoundError:
        return ()


def _fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < FRESH_S
    except FileNotFoundError:
        return False
