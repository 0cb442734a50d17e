"""The values that flow through a pipeline: several requests at once, immutable, column by column.

A request alone is a batch of one. Items are int32 indices into the bundle's catalogue; ids and properties
appear only in the response. Arrays cross between replicas as a few buffers, however many requests there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.types import FilterExpression, Float32, Float64, History, Int32, Mask, Query
from training.models.arrays import Int64
from training.models.ragged import Items, Ragged, places_of, splits

T = TypeVar("T")
UInt32 = NDArray[np.uint32]
Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Histories:
    """What b users liked, oldest first.

    Attributes:
        item_index: int32, the items.
        value: float32 [m], the strength of each event (a rating for films).
        timestamp: float64 [m], unix seconds, never decreasing within a row.
    """

    item_index: Items
    value: Float32
    timestamp: Float64

    def __len__(self) -> int:
        return len(self.item_index)

    def __getitem__(self, row: int) -> History:
        at = slice(*self.item_index.row_splits[row : row + 2])
        return History(self.item_index.values[at], self.value[at], self.timestamp[at])

    def take(self, rows: Rows) -> Histories:
        places, row_splits = places_of(self.item_index.row_splits, rows)
        return Histories(
            Ragged(self.item_index.values[places], row_splits), self.value[places], self.timestamp[places]
        )


@dataclass(frozen=True, slots=True)
class Queries:
    """b requests that are answered together.

    Attributes:
        now: float64 [b], unix seconds; every age and recency is counted from here.
        count: int32 [b], items wanted.
        named: what each request names: items to rank, or to find similar ones to.
        hidden: items never to be returned: excluded by the request, met, disliked.
        disliked: items whose newest event is a dislike: in no reason.
        filters: the distinct filters, None among them where a request has none.
        filter_of: int32 [b], which of them each request has.
        histories: empty rows where nothing is known.
        user_features: float32 [b, w], zeros where they are not known.
        known: bool [b], whose features are known.
        diversity: float32 [b], how much relevance to give up for variety; 0 keeps the ranking.
        explain: bool [b].
        context: what the client said of the moment, a mapping a request.
        traceparents: the callers' spans (W3C Trace Context), None where a request is not traced.
    """

    now: Float64
    count: Int32
    named: Items
    hidden: Items
    disliked: Items
    filters: tuple[FilterExpression | None, ...]
    filter_of: Int32
    histories: Histories
    user_features: Float32
    known: Mask
    diversity: Float32
    explain: Mask
    context: tuple[Mapping[str, str | float], ...]
    traceparents: tuple[str | None, ...]
    _once: dict[str | bytes, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.now)

    @property
    def with_history(self) -> Mask:
        """bool [b]: the requests of somebody of whom an event is known."""
        return np.asarray(self.histories.item_index.lengths > 0)

    def once(self, name: str | bytes, compute: Callable[[], T]) -> T:
        """What several stages read of this batch and one computes. It stays with the batch: it goes neither
        to another replica nor to a part of the requests."""
        if name not in self._once:
            self._once[name] = compute()
        found: T = self._once[name]
        return found

    def bare(self) -> Queries:
        """Without what was computed, to be sent."""
        return replace(self, _once={})

    @staticmethod
    def of(queries: Sequence[Query], user_width: int, hidden: Sequence[Int32]) -> Queries:
        """Args:
        user_width: of the encoded user features.
        hidden: int32, for each query the items that may not be returned.
        """
        filters: dict[str, int] = {}
        distinct: list[FilterExpression | None] = []
        filter_of = np.empty(len(queries), np.int32)
        for row, query in enumerate(queries):
            key = repr(query.filter)
            if key not in filters:
                filters[key] = len(distinct)
                distinct.append(query.filter)
            filter_of[row] = filters[key]
        known = np.array([query.user_features is not None for query in queries], bool)
        features = np.zeros((len(queries), user_width), np.float32)
        for row in np.flatnonzero(known).tolist():
            features[row] = queries[row].user_features
        histories = [query.history for query in queries]
        return Queries(
            now=np.array([query.now for query in queries], np.float64),
            count=np.array([query.count for query in queries], np.int32),
            named=Ragged.of([query.items for query in queries], np.int32),
            hidden=Ragged.of(hidden, np.int32),
            disliked=Ragged.of([query.disliked for query in queries], np.int32),
            filters=tuple(distinct),
            filter_of=filter_of,
            histories=Histories(
                Ragged.of([each.item_index for each in histories], np.int32),
                np.concatenate([np.empty(0, np.float32), *(each.value for each in histories)]),
                np.concatenate([np.empty(0, np.float64), *(each.timestamp for each in histories)]),
            ),
            user_features=features,
            known=known,
            diversity=np.array(
                [each.diversity.strength if each.diversity.method == "mmr" else 0 for each in queries],
                np.float32,
            ),
            explain=np.array([query.explain for query in queries], bool),
            context=tuple(query.context for query in queries),
            traceparents=tuple(query.traceparent for query in queries),
        )

    def take(self, rows: Rows) -> Queries:
        """These requests, in this order; the batch itself where it is all of them, and the same object for
        all stages that are for the same ones."""
        if len(rows) == len(self) and (rows == np.arange(len(self))).all():
            return self
        return self.once(np.asarray(rows, np.int64).tobytes(), lambda: self._take(rows))

    def _take(self, rows: Rows) -> Queries:
        return Queries(
            now=self.now[rows],
            count=self.count[rows],
            named=self.named.take(rows),
            hidden=self.hidden.take(rows),
            disliked=self.disliked.take(rows),
            filters=self.filters,
            filter_of=self.filter_of[rows],
            histories=self.histories.take(rows),
            user_features=self.user_features[rows],
            known=self.known[rows],
            diversity=self.diversity[rows],
            explain=self.explain[rows],
            context=tuple(self.context[row] for row in rows.tolist()),
            traceparents=tuple(self.traceparents[row] for row in rows.tolist()),
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items for each of b requests; n in all.

    Attributes:
        row_splits: int64 [b + 1]; those of request i lie from `row_splits[i]` up to `row_splits[i + 1]`.
        item_index: int32 [n].
        source: uint32 [n], bit i set where source i of the pipeline brought the item.
        retrieval_score: float32 [n]; a source's own scale before blending, a probability-like calibrated
            score after it.
        score: float32 [n], the ranker's, NaN for requests that it did not rank; None where it ranked none.
        columns: float32 [n] each, by name: features, each added by the hydrator that provides it; NaN for
            requests to which it added none.
    """

    row_splits: Int64
    item_index: Int32
    source: UInt32
    retrieval_score: Float32
    score: Float32 | None = None
    columns: Mapping[str, Float32] = field(default_factory=dict)

    def __len__(self) -> int:
        """Requests."""
        return len(self.row_splits) - 1

    @property
    def items(self) -> Items:
        """The items of each request."""
        return Ragged(self.item_index, self.row_splits)

    @property
    def lengths(self) -> Int64:
        """int64 [b]: how many each request has."""
        return self.row_splits[1:] - self.row_splits[:-1]

    @property
    def relevance(self) -> Float32:
        """float32 [n]: the ranker's score, the retrieval score of requests that it did not rank."""
        if self.score is None:
            return self.retrieval_score
        unranked = np.isnan(self.score)
        return np.where(unranked, self.retrieval_score, self.score) if unranked.any() else self.score

    @property
    def ranked(self) -> Mask:
        """bool [b]: the requests whose candidates the ranker ranked; those without candidates are not."""
        found = np.zeros(len(self), np.bool_)
        if self.score is not None and (some := self.lengths > 0).any():
            found[some] = ~np.isnan(self.score[self.row_splits[:-1][some]])
        return found

    @property
    def row(self) -> Int64:
        """int64 [n]: the request of every candidate."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @staticmethod
    def empty(rows: int) -> Candidates:
        return Candidates(
            np.zeros(rows + 1, np.int64),
            np.empty(0, np.int32),
            np.empty(0, np.uint32),
            np.empty(0, np.float32),
        )

    @staticmethod
    def of(found: Items, retrieval_score: Float32) -> Candidates:
        """A source's answer; the executor sets the source bits."""
        return Candidates(
            found.row_splits, found.values, np.zeros(len(found.values), np.uint32), retrieval_score
        )

    def pick(self, places: Rows, row_splits: Int64) -> Candidates:
        """The candidates at these places, which now lie so."""
        return Candidates(
            row_splits,
            self.item_index[places],
            self.source[places],
            self.retrieval_score[places],
            None if self.score is None else self.score[places],
            {name: column[places] for name, column in self.columns.items()},
        )

    @staticmethod
    def join(parts: Sequence[tuple[Rows, Candidates]], b: int) -> Candidates:
        """Those of parts of b requests, each with the numbers of its requests, as those of all. A score or a
        column that a part lacks is NaN there."""
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)]).astype(np.int64)
        lengths = np.zeros(b, np.int64)
        lengths[rows] = np.concatenate([np.empty(0, np.int64), *(part.lengths for _, part in parts)])
        full = [part for _, part in parts if len(part.item_index)]
        scored = any(part.score is not None for part in full)
        names = sorted(set[str]().union(*(part.columns for part in full)))
        one_after_another = Candidates(
            np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64),
            np.concatenate([np.empty(0, np.int32), *(part.item_index for part in full)]),
            np.concatenate([np.empty(0, np.uint32), *(part.source for part in full)]),
            np.concatenate([np.empty(0, np.float32), *(part.retrieval_score for part in full)]),
            np.concatenate([_or_nan(part, part.score) for part in full]) if scored else None,
            {
                name: np.concatenate([_or_nan(part, part.columns.get(name)) for part in full])
                for name in names
            },
        )
        order = np.argsort(rows, kind="stable")
        joined = one_after_another.take(order)
        return replace(joined, row_splits=splits(lengths))

    def keep(self, mask: Mask) -> Candidates:
        """Where the mask, bool [n], is True; the same order."""
        if mask.all():
            return self
        kept = np.zeros(len(mask) + 1, np.int64)
        np.cumsum(mask, out=kept[1:])
        return self.pick(np.flatnonzero(mask), kept[self.row_splits])

    def take(self, rows: Rows) -> Candidates:
        """Those of these requests, in this order."""
        return self.pick(*places_of(self.row_splits, rows))

    def spread(self, rows: Rows, b: int) -> Candidates:
        """Those of a part of b requests, `rows` ascending, as those of all: the others have none."""
        lengths = np.zeros(b, np.int64)
        lengths[rows] = self.lengths
        return replace(self, row_splits=splits(lengths))

    def with_score(self, score: Float32) -> Candidates:
        return replace(self, score=score)

    def with_columns(self, columns: Mapping[str, Float32]) -> Candidates:
        return replace(self, columns={**self.columns, **columns})

    def with_source(self, bit: int) -> Candidates:
        return replace(self, source=np.full(len(self.item_index), 1 << bit, np.uint32))


def _or_nan(part: Candidates, column: Float32 | None) -> Float32:
    return np.full(len(part.item_index), np.nan, np.float32) if column is None else column
