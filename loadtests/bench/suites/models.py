"""Models: the served encoder and ranker against the same computation in eager torch, answers held equal."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from features.memory_store import MemoryOnlineStore
from loadtests.bench.eager import EagerRanker
from loadtests.bench.result import Goal, Section, Spread, Table
from loadtests.bench.rounds import Effort, in_turn, median_seconds, spread_of
from loadtests.bench.world import World
from serving.assemble import Models
from serving.hydrators import UserHydrator
from serving.types import Query
from training.bundle import Bundle, read_bundle
from training.data.tables import Tables
from training.models.arrays import Float32, Int32

CANDIDATES = 500
"""Scored for a user: what the blend lets through by default."""

USERS = 20
"""Asked one after another, so that no user's rows stay in the caches."""

TOP = 10
TOLERANCE = 1e-4
"""Of a score, absolute: both sum hundreds of float32 terms, in their own order."""

TEXT = f"""\
One user's vector and the scores of {CANDIDATES} candidates, on one thread: as served (numpy) and in eager
torch (the trained network, whole rows of the linear models, a `searchsorted` a curve). Both
start from the same arrays. Their {TOP} best must be the same items, and every score equal within
{TOLERANCE:g}, or the suite fails. Both score from nothing: what a request's sources leave for the ranker to
reuse is not used here. A figure is the median call for {USERS} users in turn.
"""


class Unequal(Exception):
    """The two arms rank differently, so that comparing their times would mean nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    history: Int32
    user_features: Float32
    candidates: Int32


def run(effort: Effort, world: World) -> Section:
    bundle, tables = read_bundle(str(world.bundle)), Tables.read(world.home / "data")
    models = Models(bundle)
    now = models.statistics.end
    cases = _cases(bundle, tables, now)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arms = {"as served": _served(models, now), "eager torch": _eager(models, bundle, now)}
        for case in cases:
            check_equal(arms["as served"](case), arms["eager torch"](case))
        found = in_turn({name: _timed(score, cases, effort) for name, score in arms.items()}, effort.rounds)
    finally:
        torch.set_num_threads(threads)
    ms = {name: spread_of(times, lambda seconds: seconds * 1e3) for name, times in found.items()}
    return section(ms)


def section(ms: dict[str, Spread]) -> Section:
    ratio = ms["as served"].over(ms["eager torch"])
    rows = tuple((name, spread, spread.over(ms["eager torch"])) for name, spread in ms.items())
    return Section(
        "models",
        "Encoder and ranker against eager torch",
        TEXT,
        (Table("One user", ("arm", "p50 (ms)", "÷ eager torch"), rows),),
        (Goal("encoder + ranker p50 ÷ eager torch", ratio, "at most", 0.5),),
    )


def check_equal(ours: Float32, theirs: Float32) -> None:
    """Raises Unequal. Items whose scores are level within the tolerance may change places."""
    if not np.allclose(ours, theirs, atol=TOLERANCE):
        raise Unequal(f"scores differ by up to {np.abs(ours - theirs).max():.2e}")
    best, other = (np.argsort(-scores, kind="stable")[:TOP] for scores in (ours, theirs))
    if (ours[best] - ours[other] > 2 * TOLERANCE).any():
        raise Unequal("the best items differ")


def _cases(bundle: Bundle, tables: Tables, now: float) -> list[Case]:
    """Users as the online store knows them, those with the most events first, and seeded candidates."""
    store = MemoryOnlineStore.from_events(bundle.schema, tables.interactions, tables.items, tables.users)
    hydrator = UserHydrator(store, bundle.schema, bundle.catalogue, bundle.manifest.feedback)
    rng = np.random.default_rng(0)
    n_items = len(bundle.catalogue)
    cases = []
    counts = tables.interactions["user_id"].value_counts().to_pylist()
    for user in sorted(counts, key=lambda user: -user["counts"]):
        query = asyncio.run(hydrator.hydrate_query(Query("", user["values"], now, 0.0, TOP)))
        if query.user_features is not None and len(query.history):
            chosen = rng.choice(n_items, min(CANDIDATES, n_items), replace=False).astype(np.int32)
            cases.append(Case(query.history.item_index, query.user_features, chosen))
        if len(cases) == USERS:
            break
    return cases


Score = Callable[[Case], Float32]


def _served(models: Models, now: float) -> Score:
    features, ranker = models.ranking_features, models.ranker

    def score(case: Case) -> Float32:
        history = case.history.copy()  # another array is another request: nothing is remembered of it
        return ranker.score(features.compute(history, case.user_features, now, case.candidates))

    return score


def _eager(models: Models, bundle: Bundle, now: float) -> Score:
    eager = EagerRanker(models, bundle.schema.user_width, now)
    return lambda case: eager.score(case.history, case.user_features, case.candidates)


def _timed(score: Score, cases: list[Case], effort: Effort) -> Callable[[], float]:
    def round_() -> float:
        calls = [median_seconds(partial(score, case), effort.repeats // 4 + 1) for case in cases]
        return statistics.median(calls)

    return round_
