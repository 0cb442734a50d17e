"""Requests over several bundles: who answers, what is counted of it, and what a shadow may do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from serving.cache import LatestAnswers
from serving.config import CacheConfig, ShadowConfig, Traffic
from serving.engine import Engine
from serving.errors import InvalidFilter, Unavailable
from serving.program import Here
from serving.stages import Source
from serving.traffic.bundle_metrics import ENOUGH, WINDOW, BundleMetrics, Window
from serving.traffic.live import Live
from serving.traffic.shadow import Request, Shadows
from serving.traffic.table import Table
from serving.types import Query, Recommendation, Shown
from tests.serving.doubles import Counts, FixedSource, Recall, batch_of, fails, query_of
from tests.serving.fakes import N_ITEMS, engine_of
from tests.serving.virtual import POOL, Held

ALL = ShadowConfig(share=1, concurrency=2)


@dataclass
class Service:
    """Everything of a replica but HTTP."""

    shadow: ShadowConfig = ALL
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        metrics = BundleMetrics(self.registry)
        self.live = Live(metrics, Shadows(self.shadow, metrics))

    def serve(self, *shadows: Engine, **weights: tuple[Engine, int]) -> None:
        entries = [{"bundle": name, "weight": weight} for name, (_, weight) in weights.items()]
        entries += [{"bundle": f"shadow-{i}", "shadow": True} for i in range(len(shadows))]
        engines = [*(engine for engine, _ in weights.values()), *shadows]
        self.live.swap(Table.of(Traffic.model_validate({"traffic": entries}), engines))

    async def ask(self, key: str = "ann", **more: Any) -> str:
        """The version that answered; what follows the answer has been done, but for shadows."""
        body, after = await self.live.answer(request(key, **more), version_of)
        if after is not None:
            await after()
        return body.decode()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"marquee_{name}", labels)


def version_of(_: Recommendation, engine: Engine) -> bytes:
    return engine.version.encode()


def request(
    key: str = "ann", kind: str = "recommend", query: Callable[[Engine], Query] | None = None
) -> Request:
    def made(_: Engine) -> Query:
        loop = asyncio.get_running_loop()
        return query_of(user_id=key, deadline=loop.time() + 10)

    return Request(kind, key, query or made)  # type: ignore[arg-type]  # parameters of a test are wider


def engine(version: str, *sources: Source, **more: object) -> Engine:
    return engine_of(*sources, version=version, **more)  # type: ignore[arg-type]  # parameters of a test are wider


def brings(*items: int) -> FixedSource:
    return FixedSource("fixed", batch=batch_of(items))


async def test_each_bundle_answers_its_users_and_is_counted_by_itself() -> None:
    service = Service()
    service.serve(a=(engine("A"), 50), b=(engine("B", FixedSource("broken", fault=fails)), 50))
    answered: dict[str, int] = {"A": 0, "B": 0}
    for i in range(40):
        try:
            answered[await service.ask(f"user-{i}")] += 1
        except Unavailable:
            answered["B"] += 1
    assert min(answered.values()) > 5
    assert service.value("bundle_requests_total", bundle="A", outcome="ok") == answered["A"]
    assert service.value("bundle_requests_total", bundle="A", outcome="error") == 0
    assert service.value("bundle_requests_total", bundle="B", outcome="ok") == 0
    assert service.value("bundle_requests_total", bundle="B", outcome="error") == answered["B"]
    assert service.value("bundle_seconds_count", bundle="B") == answered["B"]
    assert service.value("bundle_weight_ratio", bundle="A", role="production") == 0.5
    assert service.value("bundle_weight_ratio", bundle="B", role="canary") == 0.5
    assert service.value("trained_timestamp_seconds", bundle="A") == 1e9


async def test_degraded_and_empty_answers_are_counted() -> None:
    service = Service()
    service.serve(a=(engine("A", brings(3), FixedSource("broken", fault=fails)), 100))
    await service.ask()
    service.serve(a=(engine("A", brings()), 100))
    await service.ask()
    assert service.value("bundle_degraded_total", bundle="A") == 1
    assert service.value("bundle_empty_total", bundle="A") == 1


async def test_the_mistakes_of_clients_say_nothing_of_a_bundle() -> None:
    def wrong(_: Engine) -> Query:
        raise InvalidFilter("year", "no such field")

    service = Service()
    service.serve(a=(engine("A"), 100))
    with pytest.raises(InvalidFilter):
        await service.ask(query=wrong)
    assert service.value("bundle_requests_total", bundle="A", outcome="error") == 0
    assert service.value("bundle_seconds_count", bundle="A") == 0


async def test_kept_answers_never_cross_bundles() -> None:
    def caching(version: str, *items: int) -> Engine:
        made = engine(version, brings(*items))
        return made.with_pipeline("recommend", replace(made.recommend, cache=LatestAnswers(CacheConfig())))

    def known(_: Engine) -> Query:
        return query_of(user_id="ann", user_version=1, deadline=1e12)

    one, other = caching("A", 3, 4), caching("B", 5, 6)
    service = Service()
    items: list[list[int]] = []

    def keep(recommendation: Recommendation, _: Engine) -> bytes:
        items.append(sorted(recommendation.shown.item_index.tolist()))
        return b""

    for weights in (
        {"a": (one, 100)},
        {"a": (one, 0), "b": (other, 100)},
        {"a": (one, 100), "b": (other, 0)},
    ):
        service.serve(**weights)
        for _ in range(2):
            await service.live.answer(request(query=known), keep)
    assert items == [[3, 4], [3, 4], [5, 6], [5, 6], [3, 4], [3, 4]]


async def test_series_of_a_bundle_that_left_the_traffic_are_gone() -> None:
    service = Service()
    service.serve(engine("C"), a=(engine("A"), 50), b=(engine("B"), 50))
    for i in range(10):
        await service.ask(f"user-{i}")
    await service.live.shadows.settled()
    service.serve(a=(engine("A"), 100))
    there = {
        s.labels["bundle"] for f in service.registry.collect() for s in f.samples if "bundle" in s.labels
    }
    assert there == {"A"}


async def test_a_bundle_that_leaves_while_it_answers_leaves_no_series() -> None:
    held, service = Held(), Service()
    slow = FixedSource("slow", batch=batch_of([3]), fault=held)
    service.serve(a=(engine("A", slow, here=Here(POOL)), 100))
    answering = asyncio.create_task(service.ask())
    await asyncio.to_thread(held.begun.wait, 60)
    service.serve(b=(engine("B"), 100))
    held.free.set()
    assert await answering == "A"
    assert service.value("bundle_requests_total", bundle="A", outcome="ok") is None


# Quality


def answer_of(items: list[int], score: float | None = None) -> Shown:
    found = batch_of(items)
    scores = None if score is None else np.full(len(items), score, np.float32)
    return Shown(found.item_index, found.source, found.retrieval_score, scores)


def test_a_window_forgets_what_is_older() -> None:
    window = Window()
    for item in (7, *[3] * WINDOW):
        window.add(answer_of([item]))
    assert window.coverage(10, WINDOW) == 0.1


def test_drift_takes_enough_answers() -> None:
    production, canary = Window(), Window()
    for i in range(ENOUGH):
        assert canary.drift(production) is None
        production.add(answer_of([1, 2], i % 10))
        canary.add(answer_of([1, 2], i % 10))
    assert canary.drift(production) == 0
    for _ in range(ENOUGH):
        canary.add(answer_of([1, 2], 100.0))
    drifted = canary.drift(production)
    assert drifted is not None
    assert drifted > 0.25


async def test_coverage_diversity_and_drift_are_there_when_read() -> None:
    service = Service()
    service.serve(a=(engine("A", brings(3, 4)), 100))
    assert service.value("bundle_diversity_ratio", bundle="A") is None
    await service.ask()
    assert service.value("bundle_coverage_ratio", bundle="A") == 2 / N_ITEMS
    assert 0 < (service.value("bundle_diversity_ratio", bundle="A") or 0) < 2
    assert service.value("bundle_score_psi", bundle="A") == 0


async def test_bundles_are_compared_by_as_many_answers_each() -> None:
    """A canary with a tenth of the answers would else look as if it kept to fewer items."""
    service = Service()
    service.serve(a=(engine("C"), 90), b=(engine("D"), 10))
    lists = {"C": [[1], [2], [3], [1]], "D": [[1], [2]]}
    for version, shown in lists.items():
        for items in shown:
            service.live.metrics.watch(version).window.add(answer_of(items))
    assert service.value("bundle_coverage_ratio", bundle="C") == 2 / N_ITEMS
    assert service.value("bundle_coverage_ratio", bundle="D") == 2 / N_ITEMS


async def test_a_bundle_without_answers_covers_nothing_that_is_known() -> None:
    service = Service()
    service.serve(a=(engine("A", brings(3, 4)), 100))
    assert service.value("bundle_coverage_ratio", bundle="A") is None


# Shadows


async def test_a_shadow_is_compared_and_never_answers_or_counts_as_production() -> None:
    counts, recall = Counts(), Recall("recall")
    shadow = engine("S", brings(4, 5, 6), recorder=counts, side_effects=(recall,))
    service = Service()
    service.serve(shadow, a=(engine("A", brings(3, 4, 5)), 100))
    assert [await service.ask(f"user-{i}") for i in range(2)] == ["A", "A"]
    await service.live.shadows.settled()
    assert service.value("shadow_requests_total", bundle="S", outcome="ok") == 2
    assert service.value("shadow_overlap_ratio_count", bundle="S") == 2
    assert service.value("shadow_overlap_ratio_sum", bundle="S") == pytest.approx(2 * 2 / 3)
    assert service.value("bundle_requests_total", bundle="S", outcome="ok") == 0
    assert service.value("bundle_coverage_ratio", bundle="S") == 3 / N_ITEMS
    assert service.value("bundle_coverage_ratio", bundle="A") == 3 / N_ITEMS
    assert (counts.answers, counts.losses, recall.recorded) == (0, [], [])


async def test_a_failing_shadow_costs_nobody_anything() -> None:
    service = Service()
    service.serve(engine("S", FixedSource("broken", fault=fails)), a=(engine("A"), 100))
    assert await service.ask() == "A"
    await service.live.shadows.settled()
    assert service.value("shadow_requests_total", bundle="S", outcome="error") == 1
    assert service.value("bundle_requests_total", bundle="A", outcome="error") == 0


async def test_copies_beyond_what_may_run_are_dropped_and_late_ones_given_up() -> None:
    held, service = Held(), Service(replace_budget(ALL, 1_000))
    slow = engine("S", FixedSource("slow", fault=held), here=Here(POOL))
    service.serve(slow, a=(engine("A"), 100))
    for i in range(5):
        assert await service.ask(f"user-{i}") == "A"
    assert service.value("shadow_requests_total", bundle="S", outcome="dropped") == 3
    await service.live.shadows.settled()
    assert service.value("shadow_requests_total", bundle="S", outcome="error") == 2
    assert service.value("shadow_requests_total", bundle="S", outcome="ok") == 0
    held.free.set()


def replace_budget(config: ShadowConfig, budget_ms: float) -> ShadowConfig:
    return config.model_copy(update={"budget_ms": budget_ms})


async def test_the_share_says_which_requests_are_copied_and_a_canarys_are_not() -> None:
    metrics = BundleMetrics(CollectorRegistry())
    chances = iter([0.29, 0.3, 0.9, 0.0])
    shadows = Shadows(ShadowConfig(share=0.3), metrics, chance=lambda: next(chances))
    assert not shadows.wanted()  # without a shadow there is nothing to decide
    shadows.swapped((engine("S"),))
    assert [shadows.wanted() for _ in range(4)] == [True, False, False, True]
    service = Service()
    service.serve(engine("S"), a=(engine("A"), 0), b=(engine("B"), 100))
    assert await service.ask() == "B"
    await service.live.shadows.settled()
    assert service.value("shadow_requests_total", bundle="S", outcome="ok") == 0


async def test_a_ranking_is_run_but_its_items_are_the_clients_own() -> None:
    service = Service()
    service.serve(engine("S"), a=(engine("A"), 100))

    def ranks(_: Engine) -> Query:
        return query_of(user_id="ann", items=np.array([1, 2], np.int32), deadline=1e12)

    await service.ask(kind="rank", query=ranks)
    await service.live.shadows.settled()
    assert service.value("shadow_requests_total", bundle="S", outcome="ok") == 1
    assert service.value("shadow_overlap_ratio_count", bundle="S") == 0
