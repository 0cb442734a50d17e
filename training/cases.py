"""What recommenders are judged by: held-out events, and what their users had done before.

Does not belong here: who is judged, and by which measures (`evaluate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.data.manifest import DataError
from training.dataset import Dataset
from training.models.arrays import Int32, Int64
from training.models.ragged import Items, Ragged, splits

COLD, HEAVY = 5, 50
"""Events before the held-out one up to which a user is cold, and from which heavy."""

NEW = 5
"""Training events up to which an item is new."""

MOST_CASES = 20_000
"""Held-out events that are judged at most, drawn at random beyond, in order of time: the 95 % interval
of a share is then at most 1.4 points wide."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Held-out events: for each case, recommend from what its user did before the first of them.

    Attributes:
        held: positions as in `Dataset` of each case's held-out events, ascending, one at least.
        left_out: held-out events that are in no case, because their item could not have been recommended.
    """

    data: Dataset
    held: Ragged[np.int64]
    left_out: int = 0

    @staticmethod
    def each(data: Dataset, positions: Int64) -> Cases:
        """A case for each of these events."""
        return Cases(data, Ragged(positions, np.arange(len(positions) + 1)))

    @staticmethod
    def of(data: Dataset, positions: Int64) -> Cases:
        """A case for each user of these events, at most `MOST_CASES`; an item that was taken twice counts
        once. Left out are events whose item was hidden from their user, who had met it: nobody could have
        recommended them, so that they would count as misses whatever is judged.

        Args:
            positions: ascending.

        Raises:
            DataError: none is left.
        """
        users = data.events.user_index[positions]
        by_user = Ragged(positions, np.append(np.flatnonzero(np.diff(users, prepend=-1)), len(users)))
        item = data.events.item_index
        could = [held[~np.isin(item[held], data.hidden(int(held[0])))] for held in by_user]
        left_out = len(positions) - sum(map(len, could))
        could = [held[np.sort(np.unique(item[held], return_index=True)[1])] for held in could if len(held)]
        if not could:
            raise DataError(
                f"all {len(positions):,} held-out events are of items that their users had met before, which "
                "are excluded: train with --seen allow"
            )
        cases = Ragged.of(could, np.int64)
        if len(cases) > MOST_CASES:
            drawn = np.random.default_rng(0).choice(len(cases), MOST_CASES, replace=False)
            first = cases.values[cases.row_splits[drawn]]
            cases = cases.take(drawn[np.argsort(data.events.timestamp[first], kind="stable")])
        return Cases(data, cases, left_out)

    def __len__(self) -> int:
        return len(self.held)

    def __str__(self) -> str:
        """How many cases there are, and which held-out events are none."""
        seen = {"exclude": "seen items excluded", "allow": "seen items allowed"}[self.data.feedback.seen]
        left = f", {self.left_out:,} left out whose item had been met" if self.left_out else ""
        return f"{len(self):,} cases{left}, {seen}"

    @property
    def positions(self) -> Int64:
        """int64 [n]: of each case's first held-out event."""
        return self.held.values[self.held.row_splits[:-1]]

    @property
    def relevant(self) -> Items:
        """The items that were taken, of each case."""
        return Ragged(self.data.events.item_index[self.held.values], self.held.row_splits)

    @property
    def now(self) -> Int64:
        """int64 [n], unix seconds of the first held-out event."""
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


def segments(cases: Cases) -> dict[str, Items]:
    """Part of the cases → the relevant items of each case that are in it, none for a case that is not: users
    by their events before the case, and items that few have met."""
    relevant, data = cases.relevant, cases.data
    before = cases.positions - data.events.offsets[data.events.user_index[cases.positions]]
    met = np.bincount(data.events.item_index[data.train], minlength=data.n_items)
    parts = {
        "cold users": (before <= COLD)[relevant.row],
        "warm users": ((before > COLD) & (before < HEAVY))[relevant.row],
        "heavy users": (before >= HEAVY)[relevant.row],
        "new items": met[relevant.values] <= NEW,
    }
    return {
        name: Ragged(relevant.values[part], splits(np.bincount(relevant.row[part], minlength=len(cases))))
        for name, part in parts.items()
    }
