"""What Prometheus learns of each bundle in traffic: its requests as they happen, and the quality of its
latest answers when it is asked for.

A request costs a few counters and a place in a window. Gauges are computed from the windows when somebody
reads them, in the reader's thread. Series of a bundle that left the traffic are removed.

Does not belong here: metrics of stages and of HTTP (`serving.observe.prometheus`).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.engine import Engine
from serving.observe.prometheus import REQUEST_BUCKETS
from serving.observe.quality import coverage, intra_list_distances, population_stability
from serving.traffic.table import Table
from serving.types import Float32, Int32, Shown

WINDOW = 1_000
"""Answers that the gauges look back on, in each replica. Between two windows of n answers chance alone gives
a PSI of about (bins - 1) 2 / n even where all scores of an answer move together (Yurdakul 2018): 0.02 here,
well below the 0.1 that counts as a shift. About 0.5 MB a bundle at ten items an answer."""

ENOUGH = 200
"""Answers below which a bundle has no PSI: against a full window chance alone then gives 0.05."""

BLOCK = 100
"""Lists whose features are gathered at a time: 2.5 MB where each has 100 items of 64 features."""

OVERLAP_BUCKETS = tuple(tenths / 10 for tenths in range(11))
"""Ratios: the tenths that ten items can give."""


class Window:
    """The last answers of one bundle. Written by the event loop, read by other threads."""

    def __init__(self) -> None:
        self._items: deque[Int32] = deque(maxlen=WINDOW)
        self._scores: deque[Float32] = deque(maxlen=WINDOW)

    def add(self, batch: Shown) -> None:
        """Scores of answers that no ranker scored are on another scale, and left out."""
        if len(batch):
            self._items.append(batch.item_index)
            if batch.score is not None:
                self._scores.append(batch.score)

    def __len__(self) -> int:
        return len(self._items)

    def coverage(self, n_items: int, latest: int) -> float:
        """Of the latest so many answers: more of them show more items, whatever the bundle."""
        return coverage(list(self._items)[-latest:], n_items)

    def diversity(self, features: Float32) -> float | None:
        """The mean over the lists of at least two items; None without any."""
        lists = [items for items in list(self._items) if len(items) > 1]
        blocks = (lists[at : at + BLOCK] for at in range(0, len(lists), BLOCK))
        each = [intra_list_distances(block, features) for block in blocks]
        return float(np.concatenate(each).mean()) if each else None

    def drift(self, production: Window) -> float | None:
        """PSI of the scores against production's; None where either has too few answers."""
        ours, theirs = list(self._scores), list(production._scores)
        if min(len(ours), len(theirs)) < ENOUGH:
            return None
        return population_stability(np.concatenate(theirs), np.concatenate(ours))


@dataclass(frozen=True, slots=True)
class Watch:
    """One bundle's children, bound once: `labels()` costs more than what it finds."""

    engine: Engine
    role: str
    weight: int
    ok: Callable[[], None]
    error: Callable[[], None]
    seconds: Callable[[float], None]
    degraded: Callable[[], None]
    empty: Callable[[], None]
    window: Window = field(default_factory=Window)


@dataclass(frozen=True, slots=True)
class ShadowWatch:
    """What is known of one shadow: nothing of it counts as an answer."""

    ok: Callable[[], None]
    error: Callable[[], None]
    dropped: Callable[[], None]
    overlap: Callable[[float], None]
    window: Window


class BundleMetrics(Collector):
    """Thread-safe to read; written by one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"marquee_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"marquee_{name}", text, ("bundle",), buckets=buckets, registry=registry)

        self._requests = counter("bundle_requests", "Requests a bundle was to answer.", "bundle", "outcome")
        self._seconds = histogram("bundle_seconds", "Time a bundle took to answer.", REQUEST_BUCKETS)
        self._degraded = counter("bundle_degraded", "Answers from which a stage was lost.", "bundle")
        self._empty = counter("bundle_empty", "Answers without items.", "bundle")
        self._shadow_requests = counter("shadow_requests", "Copies of requests.", "bundle", "outcome")
        self._overlap = histogram(
            "shadow_overlap_ratio", "Share of items a shadow has in common with production.", OVERLAP_BUCKETS
        )
        self._refused = counter("bundle_refused", "Traffic that was not taken, by error class.", "reason")
        self._watches: dict[str, Watch] = {}
        self._shadows: dict[str, ShadowWatch] = {}
        registry.register(self)

    def watch(self, version: str) -> Watch:
        """Of a bundle in traffic."""
        return self._watches[version]

    def shadow(self, version: str) -> ShadowWatch:
        """Of a shadow in traffic."""
        return self._shadows[version]

    def refused(self, error: Exception) -> None:
        self._refused.labels(type(error).__name__).inc()

    def swapped(self, table: Table[Engine]) -> None:
        """This traffic from now on. A bundle that stays keeps its window."""
        before, watches = self._watches, dict[str, Watch]()
        shadows_before, shadows = self._shadows, dict[str, ShadowWatch]()
        for at, (entry, engine) in enumerate(zip(table.traffic.traffic, table.held, strict=True)):
            version = engine.version
            window = before[version].window if version in before else Window()
            role = "shadow" if entry.shadow else "canary" if at else "production"
            watches[version] = self._watch(engine, role, entry.weight, window)
            if entry.shadow:
                shadows[version] = self._shadow(version, window)
        self._watches, self._shadows = watches, shadows
        self._remove(before.keys() - watches.keys(), shadows_before.keys() - shadows.keys())

    def _watch(self, engine: Engine, role: str, weight: int, window: Window) -> Watch:
        version = engine.version
        return Watch(
            engine,
            role,
            weight,
            self._requests.labels(version, "ok").inc,
            self._requests.labels(version, "error").inc,
            self._seconds.labels(version).observe,
            self._degraded.labels(version).inc,
            self._empty.labels(version).inc,
            window,
        )

    def _shadow(self, version: str, window: Window) -> ShadowWatch:
        ok, error, dropped = (
            self._shadow_requests.labels(version, outcome).inc for outcome in ("ok", "error", "dropped")
        )
        return ShadowWatch(ok, error, dropped, self._overlap.labels(version).observe, window)

    def _remove(self, gone: set[str], shadows_gone: set[str]) -> None:
        with warnings.catch_warnings():
            # Replicas that add up their metrics in files cannot take a series out of them, and say so;
            # `serving.deployments.exposition` leaves out what is not in traffic.
            warnings.filterwarnings("ignore", "Removal of labels", UserWarning)
            for version in gone:
                for outcome in ("ok", "error"):
                    self._requests.remove(version, outcome)
                for family in (self._seconds, self._degraded, self._empty):
                    family.remove(version)
            for version in shadows_gone:
                for outcome in ("ok", "error", "dropped"):
                    self._shadow_requests.remove(version, outcome)
                self._overlap.remove(version)

    def collect(self) -> Iterator[Metric]:
        """The gauges; counters and histograms are in the registry themselves."""

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"marquee_{name}", text, labels=labels)

        weight = gauge("bundle_weight_ratio", "Share of the users a bundle answers.", "bundle", "role")
        trained = gauge("trained_timestamp_seconds", "When a bundle was made, unix time.", "bundle")
        covered = gauge("bundle_coverage_ratio", "Share of the catalogue in as many answers.", "bundle")
        diversity = gauge("bundle_diversity_ratio", "Mean distance of items in an answer.", "bundle")
        psi = gauge("bundle_score_psi", "Population stability of scores against production.", "bundle")
        watches = list(self._watches.values())
        compared = min((len(each.window) for each in watches if len(each.window)), default=0)
        for each in watches:
            engine, version = each.engine, [each.engine.version]
            weight.add_metric([*version, each.role], each.weight / 100)
            trained.add_metric(version, engine.trained_at)
            if len(each.window):
                covered.add_metric(version, each.window.coverage(len(engine.catalogue), compared))
            if (distance := each.window.diversity(engine.catalogue.features)) is not None:
                diversity.add_metric(version, distance)
            drift = 0.0 if each is watches[0] else each.window.drift(watches[0].window)
            if drift is not None:
                psi.add_metric(version, drift)
        yield from (weight, trained, covered, diversity, psi)
