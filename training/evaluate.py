"""The evaluation protocol: all items that a user could be shown are ranked, the held-out one should be first.
Delisted items (`Catalogue.delisted`) are neither ranked nor held out.

One table for whatever can recommend, ours beside the baselines that any recommender must beat. Does not
belong here: the served pipeline, which serving wraps as a `Recommender`; the measures themselves (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.table import Table

from training import metrics
from training.data.manifest import DataError
from training.dataset import Dataset
from training.fit.linear import fit_ease
from training.models.eligible import top_k
from training.models.linear import DENSE_ITEMS

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

Float64 = NDArray[np.float64]
Measure = Callable[[NDArray[np.bool_], Int64, int], float]

CUTOFF, RETRIEVED = 10, 100
"""Items of a recommendation and of a retrieval that are judged."""

RESAMPLES = 1_000
"""Bootstrap resamples of the users; the ends of a 95 % interval then move by a few percent of its width."""

EASE_REGULARISATION = 250.0
"""RecBole's default, which its published figures for this data use."""

MOST_CASES = 20_000
"""Held-out events that are judged at most, drawn at random beyond, in order of time: the 95 % interval
of a share is then at most 1.4 points wide."""

_CHUNK_SCORES = 8 << 20
"""Scores that a baseline sorts at once: 100 MB while it does."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Held-out events: for each, recommend from what its user did before.

    Attributes:
        positions: as in `Dataset`.
        left_out: held-out events that are no cases, because their item could not have been recommended.
    """

    data: Dataset
    positions: Int64
    left_out: int = 0

    @staticmethod
    def of(data: Dataset, positions: Int64) -> Cases:
        """These events but those whose item was hidden from their user, who had met it: nobody could have
        recommended them, so that they would count as misses whatever is judged. At most `MOST_CASES`.

        Raises:
            DataError: none is left.
        """
        could = np.array([data.events.item_index[p] not in data.hidden(p) for p in positions.tolist()], bool)
        if not could.any():
            raise DataError(
                f"all {len(positions):,} held-out events are of items that their users had met before, which "
                "are excluded: train with --seen allow"
            )
        cases = positions[could]
        if len(cases) > MOST_CASES:
            cases = np.random.default_rng(0).choice(cases, MOST_CASES, replace=False)
            cases = cases[np.argsort(data.events.timestamp[cases], kind="stable")]
        return Cases(data, cases, int(len(positions) - could.sum()))

    def __len__(self) -> int:
        return len(self.positions)

    def __str__(self) -> str:
        """How many cases there are, and which held-out events are none."""
        seen = {"exclude": "seen items excluded", "allow": "seen items allowed"}[self.data.feedback.seen]
        left = f", {self.left_out:,} left out whose item had been met" if self.left_out else ""
        return f"{len(self):,} cases{left}, {seen}"

    @property
    def targets(self) -> Int32:
        """int32 [n]: the item that was taken."""
        return self.data.events.item_index[self.positions]

    @property
    def now(self) -> Int64:
        """int64 [n], unix seconds of the event."""
        return self.data.events.timestamp[self.positions]

    @property
    def user_ids(self) -> tuple[str, ...]:
        ids = self.data.events.user_ids
        return tuple(ids[user] for user in self.data.events.user_index[self.positions])

    def span(self, case: int) -> slice:
        """Where in `data.events` the history of a case is: all of it may be used."""
        position = int(self.positions[case])
        return slice(int(self.data.events.offsets[self.data.events.user_index[position]]), position)

    def histories(self) -> Iterator[Int32]:
        """Items, oldest first, of each case."""
        return (self.data.events.item_index[self.span(case)] for case in range(len(self)))

    def hidden(self) -> Iterator[Int32]:
        """Items that may not be recommended, of each case (`Dataset.hidden`)."""
        return (self.data.hidden(position) for position in self.positions.tolist())


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
    """What was measured of one recommender: measure → value, and its 95 % interval where users were
    resampled."""

    name: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


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
    """A row for each recommender: NDCG@10, Recall@10, Recall@100 of what was retrieved, and how varied and
    how novel the ten are (`metrics`)."""
    data = cases.data
    known = data.subset(data.train)
    pairs = np.unique(np.stack([known.user_index, known.item_index]), axis=1)
    met = np.bincount(pairs[1], minlength=data.n_items)
    return tuple(_row(recommender, cases, met) for recommender in recommenders)


def _row(recommender: Recommender, cases: Cases, met: Int64) -> Row:
    top = recommender.recommend(cases, CUTOFF)
    find = recommender.retrieve if isinstance(recommender, Retriever) else recommender.recommend
    found = find(cases, RETRIEVED)
    per_user = {
        f"ndcg@{CUTOFF}": _per_user(metrics.ndcg, top, cases.targets),
        f"recall@{CUTOFF}": _per_user(metrics.recall, top, cases.targets),
        f"recall@{RETRIEVED}": _per_user(metrics.recall, found, cases.targets),
    }
    beyond = {
        "coverage": metrics.coverage(top, CUTOFF, cases.data.n_listed),
        "diversity": metrics.intra_list_diversity(top, CUTOFF, cases.data.item_profiles),
        "novelty": metrics.novelty(top, CUTOFF, met, len(cases.data.events.user_ids)),
    }
    values = {name: float(each.mean()) for name, each in per_user.items()}
    intervals = {name: interval(each) for name, each in per_user.items()}
    return Row(recommender.name, {**values, **beyond}, intervals)


def _per_user(measure: Measure, ranked: Int32, targets: Int32) -> Float64:
    """float64 [n]: the measure over all places, of each case alone."""
    hits = metrics.hits(ranked, list(targets[:, None]))
    one = np.ones(1, np.int64)
    return np.array([measure(hits[case : case + 1], one, ranked.shape[1]) for case in range(len(hits))])


def interval(per_user: Float64, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean over users (Efron and Tibshirani 1993)."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(per_user), np.full(len(per_user), 1 / len(per_user)), RESAMPLES)
    low, high = np.percentile(counts @ per_user / len(per_user), [2.5, 97.5])
    return float(low), float(high)


def as_metrics(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Recommender → measure → value, the ends of intervals among them: what a bundle's manifest records."""
    return {
        row.name: {
            **row.values,
            **{f"{name} low": low for name, (low, _) in row.intervals.items()},
            **{f"{name} high": high for name, (_, high) in row.intervals.items()},
        }
        for row in rows
    }


def render(rows: Sequence[Row], title: str) -> Table:
    """For people: a column for each recommender, 95 % intervals beside what has one."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("")
    for row in rows:
        table.add_column(row.name, justify="right")
    for measure in rows[0].values if rows else ():
        table.add_row(measure, *(_cell(row, measure) for row in rows))
    return table


def markdown(rows: Sequence[Row]) -> str:
    """For a page: a line for each recommender, without intervals."""
    measures = list(rows[0].values)
    lines = [f"| | {' | '.join(measures)} |", "|---|" + "---:|" * len(measures)]
    lines += [f"| {row.name} | {' | '.join(f'{row.values[m]:.4f}' for m in measures)} |" for row in rows]
    return "\n".join(lines)


def _cell(row: Row, measure: str) -> str:
    if measure not in row.intervals:
        return f"{row.values[measure]:.3f}"
    low, high = row.intervals[measure]
    return f"{row.values[measure]:.4f} [dim]{low:.3f}-{high:.3f}[/dim]"


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
