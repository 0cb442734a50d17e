"""The evaluation protocol: all items that a user could be shown are ranked, the held-out one should be first.
Delisted items (`Catalogue.delisted`) are neither ranked nor held out.

One table for whatever can recommend, ours beside the baselines that any recommender must beat. Does not
belong here: the served pipeline, which serving wraps as a `Recommender`; the measures themselves (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

import numpy as np

from training import metrics
from training.cases import Cases, segments
from training.dataset import Dataset
from training.fit.linear import fit_ease
from training.models.arrays import Float32, Float64, Int32, Int64
from training.models.eligible import top_k
from training.models.linear import DENSE_ITEMS
from training.models.ragged import Items

CUTOFFS = (1, 5, 10, 20, 50)
"""Items of a recommendation that accuracy is judged by."""

CUTOFF, RETRIEVED = 10, 100
"""Items of what is judged beyond accuracy, and of a retrieval."""

RESAMPLES = 1_000
"""Bootstrap resamples of the users; the ends of a 95 % interval then move by a few percent of its width."""

EASE_REGULARISATION = 250.0
"""RecBole's default, which its published figures for this data use."""

_RESAMPLES_AT_ONCE = 50
"""16 MB of 20,000 users."""

_CHUNK_SCORES = 8 << 20
"""Scores that a baseline sorts at once: 100 MB while it does."""


class Recommender(Protocol):
    @property
    def name(self) -> str: ...

    def recommend(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k]: best first, none that is hidden, -1 where there are no more."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """A recommender that ranks in two stages also says what its first stage found."""

    def retrieve(self, cases: Cases, k: int) -> Int32:
        """int32 [n, k], as `Recommender.recommend`."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one recommender.

    Attributes:
        values: measure → its mean over users.
        intervals: the 95 % intervals of those that have a value for each user.
        segments: part of the cases (`segments`) → the same measures over it, as far as they are shown.
    """

    name: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    segments: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Popularity:
    """The most met items of the training events, the same for everyone."""

    counts: Float32
    name: str = "popularity"

    @staticmethod
    def fit(data: Dataset) -> Popularity:
        items = data.events.item_index[data.train]
        return Popularity(np.bincount(items, minlength=data.n_items).astype(np.float32))

    def recommend(self, cases: Cases, k: int) -> Int32:
        order = np.argsort(-self.counts, kind="stable").astype(np.int32)
        order = order[~np.isin(order, cases.data.catalogue.delisted)]
        found = np.full((len(cases), k), -1, np.int32)
        for row, hidden in enumerate(cases.hidden()):
            first = order[: k + len(hidden)]
            best = first[~np.isin(first, hidden)][:k]
            found[row, : len(best)] = best
        return found


@dataclass(frozen=True, slots=True)
class Ease:
    """EASE as published: all events of the history count alike."""

    weights: Float32
    name: str = "EASE"

    @staticmethod
    def fit(data: Dataset) -> Ease:
        known = data.subset(data.train)
        return Ease(fit_ease(known.offsets, known.item_index, data.n_items, EASE_REGULARISATION))

    def recommend(self, cases: Cases, k: int) -> Int32:
        return _best_allowed(
            cases, k, lambda histories: np.stack([self.weights[h].sum(axis=0) for h in histories])
        )


def baselines(data: Dataset) -> tuple[Recommender, ...]:
    """What any recommender must beat: popularity and, where its matrix can be fitted, EASE."""
    popularity = Popularity.fit(data)
    return (Ease.fit(data), popularity) if data.n_items <= DENSE_ITEMS else (popularity,)


def evaluate(recommenders: Sequence[Recommender], cases: Cases) -> tuple[Row, ...]:
    """A row for each recommender: accuracy at each of `CUTOFFS`, the recall of what was retrieved, and of ten
    places what is beyond accuracy (`metrics`)."""
    judge = _Judge.of(cases)
    return tuple(judge.row(recommender) for recommender in recommenders)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Attributes:
    met: int64 [m], users who met each item in training.
    expected: int32 [n, CUTOFF], what popularity recommends.
    parts: `segments`.
    """

    cases: Cases
    met: Int64
    expected: Int32
    parts: Mapping[str, Items]

    @classmethod
    def of(cls, cases: Cases) -> Self:
        data = cases.data
        known = data.subset(data.train)
        pairs = np.unique(np.stack([known.user_index, known.item_index]), axis=1)
        met = np.bincount(pairs[1], minlength=data.n_items)
        return cls(cases, met, Popularity.fit(data).recommend(cases, CUTOFF), segments(cases))

    def row(self, recommender: Recommender) -> Row:
        top = recommender.recommend(self.cases, max(CUTOFFS))
        find = recommender.retrieve if isinstance(recommender, Retriever) else recommender.recommend
        found, listed = find(self.cases, RETRIEVED), self.cases.data.n_listed
        whole = {
            "coverage": metrics.coverage(top, CUTOFF, listed),
            "gini": metrics.gini(top, CUTOFF, listed),
        }
        name = recommender.name
        row = _row(name, {**_accuracy(top, found, self.cases.relevant), **self._beyond(top)})
        parts = {part: _row(name, _accuracy(top, found, items)) for part, items in self.parts.items()}
        known = {part: of for part, of in parts.items() if of.values}
        return replace(row, values={**row.values, **whole}, segments=known)

    def _beyond(self, top: Int32) -> dict[str, Float64]:
        cases, data = self.cases, self.cases.data
        hits = metrics.hits(top, list(cases.relevant))
        return {
            "diversity": metrics.intra_list_diversity(top, CUTOFF, data.item_profiles),
            "novelty": metrics.novelty(top, CUTOFF, self.met, len(data.events.user_ids)),
            "serendipity": metrics.serendipity(top, hits, CUTOFF, self.expected),
            "miscalibration": metrics.miscalibration(top, CUTOFF, list(cases.histories()), data.categories),
        }


def _accuracy(top: Int32, found: Int32, relevant: Items) -> dict[str, Float64]:
    """Measure → float64 [n], NaN for a case without a relevant item.

    Args:
        top, found: int32 [n, k], what was recommended and what was retrieved.
    """
    hits = metrics.hits(top, list(relevant))
    measured = {
        f"{name}@{k}": measure(hits, relevant.lengths, k)
        for k in CUTOFFS
        for name, measure in metrics.ACCURACY.items()
    }
    retrieved = metrics.hits(found, list(relevant))
    return measured | {f"recall@{RETRIEVED}": metrics.recall(retrieved, relevant.lengths, RETRIEVED)}


def _row(name: str, per_user: Mapping[str, Float64]) -> Row:
    known = {measure: each for measure, each in per_user.items() if not np.isnan(each).all()}
    values = {measure: metrics.mean(each) for measure, each in known.items()}
    return Row(name, values, intervals(known))


def intervals(per_user: Mapping[str, Float64], seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile bootstrap intervals of means over users (Efron and Tibshirani 1993), of the same
    resamples for all measures.

    Args:
        per_user: measure → float64 [n]; NaN for users who do not count.
    """
    if not per_user:
        return {}
    columns = np.stack(list(per_user.values()), 1)
    known = ~np.isnan(columns)
    sums, counted = np.where(known, columns, 0), known.astype(np.float64)
    rng, n, found = np.random.default_rng(seed), len(columns), []
    for _ in range(0, RESAMPLES, _RESAMPLES_AT_ONCE):
        drawn = rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES_AT_ONCE).astype(np.float64)
        found.append(drawn @ sums / np.maximum(drawn @ counted, 1))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5], axis=0)
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(per_user)}


def _best_allowed(cases: Cases, k: int, score: Callable[[list[Int32]], Float32]) -> Int32:
    """int32 [n, k] by `score`, which gives float32 [h, m] of h histories; hidden items out, ties by
    index."""
    found = np.full((len(cases), k), -1, np.int32)
    histories, hidden = list(cases.histories()), list(cases.hidden())
    chunk = max(1, _CHUNK_SCORES // cases.data.n_items)
    for begin in range(0, len(cases), chunk):
        some = histories[begin : begin + chunk]
        scores = score(some)
        scores[:, cases.data.catalogue.delisted] = -np.inf
        for row in range(len(some)):
            scores[row, hidden[begin + row]] = -np.inf
        for row, best in enumerate(top_k(scores, k)[0]):
            found[begin + row, : len(best)] = best
    return found
