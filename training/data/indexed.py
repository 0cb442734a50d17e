"""Interactions in index space: what models and evaluation work on. Numpy only, past `encode`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.tables import Tables

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IndexedInteractions:
    """n events of u users on m items, sorted by user, then time, then file order.

    Attributes:
        user_index: int32 [n], into `user_ids`.
        item_index: int32 [n], into `item_ids`.
        value: float32 [n].
        timestamp: int64 [n], unix seconds.
        row: int64 [n], the event's row in the interactions table: what splits are made of.
        offsets: int64 [u + 1]; user i's events are `offsets[i]:offsets[i + 1]`, oldest first.
        user_ids, item_ids: in the order of the users and items tables, those without events too.
    """

    user_index: Int32
    item_index: Int32
    value: NDArray[np.float32]
    timestamp: Int64
    row: Int64
    offsets: Int64
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows: Int64) -> IndexedInteractions:
        """Only the events of these table rows (in any order), over the same users and items."""
        wanted = np.zeros(int(self.row.max(initial=-1)) + 1, bool)
        wanted[rows] = True
        kept = wanted[self.row]
        return replace(
            self,
            user_index=self.user_index[kept],
            item_index=self.item_index[kept],
            value=self.value[kept],
            timestamp=self.timestamp[kept],
            row=self.row[kept],
            offsets=_offsets(self.user_index[kept], len(self.user_ids)),
        )


def encode(tables: Tables) -> IndexedInteractions:
    """All interactions of `tables`, as indices into its users and items."""
    events = tables.interactions
    user = positions(events["user_id"], tables.users["user_id"])
    item = positions(events["item_id"], tables.items["item_id"])
    timestamp = events["timestamp"].to_numpy()
    order = np.lexsort((timestamp, user))  # stable: equal times keep file order
    return IndexedInteractions(
        user_index=user[order],
        item_index=item[order],
        value=events["value"].to_numpy()[order],
        timestamp=timestamp[order],
        row=order,
        offsets=_offsets(user[order], tables.users.num_rows),
        user_ids=tuple(tables.users["user_id"].to_pylist()),
        item_ids=tuple(tables.items["item_id"].to_pylist()),
    )


def positions(column: pa.ChunkedArray, ids: pa.ChunkedArray) -> Int32:
    """int32 [n]: where in `ids` each cell of a dictionary-encoded column is.

    Raises:
        ValueError: a cell is not among `ids`.
    """
    encoded = column.unify_dictionaries().combine_chunks()
    where = pc.index_in(encoded.dictionary, value_set=ids.combine_chunks())
    found: Int32 = where.fill_null(-1).to_numpy(zero_copy_only=False)[encoded.indices.to_numpy()]
    if (found < 0).any():
        raise ValueError("interactions hold an id that its table lacks: build Tables with assemble()")
    return found


def _offsets(user_index: Int32, users: int) -> Int64:
    return np.concatenate(([0], np.cumsum(np.bincount(user_index, minlength=users)))).astype(np.int64)
