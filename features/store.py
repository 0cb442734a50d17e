"""What serving asks of an online feature store, and the columns that come back.

Does not belong here: any client library. `feast_store` and `memory_store` implement the protocol and
`tests/contracts` holds them to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.object_]
"""One value per entity: float32 for numbers, float64 for unix times, object for strings and lists."""


class OnlineStoreError(Exception):
    """The store could not be read: unreachable, timed out, or it answered nonsense."""


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """The online rows of `n` entities, column by column, in the order asked for.

    Attributes:
        ids: the entities asked for, `n` of them.
        found: bool [n]; False where the store holds no row, and every column then holds its default.
        columns: name → column [n], one for each feature of the schema. List features (the history) are
            object columns whose cells are 1-D arrays, not to be written to: strings as object, numbers as
            float32 or float64.
        written_at: float64 [n], unix seconds of the newest event the row has seen; NaN where not found, or
            where the entity has had no event yet.
        version: uint64 [n], a 64-bit hash of the row's content (`features.packed`), 0 where not found. Equal
            rows have equal versions, in every store, process and release of one row format; whatever changes
            a feature of the row changes its version. A key of a result cache that holds it is out of date
            by construction once an event has moved the row.
    """

    ids: tuple[str, ...]
    found: NDArray[np.bool_]
    columns: Mapping[str, Column]
    written_at: NDArray[np.float64]
    version: NDArray[np.uint64]

    @staticmethod
    def join(parts: Sequence[FeatureBatch]) -> FeatureBatch:
        """The rows of one batch or more, one after another."""
        if len(parts) == 1:
            return parts[0]
        return FeatureBatch(
            ids=tuple(one for part in parts for one in part.ids),
            found=np.concatenate([part.found for part in parts]),
            columns={
                name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns
            },
            written_at=np.concatenate([part.written_at for part in parts]),
            version=np.concatenate([part.version for part in parts]),
        )

    def take(self, at: Sequence[int]) -> FeatureBatch:
        """The rows at these positions, in their order."""
        where = np.asarray(at, np.intp)
        return FeatureBatch(
            ids=tuple(self.ids[row] for row in at),
            found=self.found[where],
            columns={name: column[where] for name, column in self.columns.items()},
            written_at=self.written_at[where],
            version=self.version[where],
        )

    def age_s(self, now: float) -> NDArray[np.float64]:
        """Seconds between `now` (unix seconds) and the row's newest event, [n]; NaN where it had none."""
        return np.maximum(now - self.written_at, 0.0)


class OnlineStore(Protocol):
    """Reads online features. One call is one round trip, bounded by the store's own timeout."""

    def kept(self, user_id: str) -> FeatureBatch | None:
        """The user's row where the store holds it in memory, as `read_users` would read it; else None."""
        ...

    async def read_users(self, user_ids: Sequence[str]) -> FeatureBatch:
        """The users' rows in the order asked for; a user without one gets the schema's defaults.

        Raises:
            OnlineStoreError: the store did not answer in time or could not be reached.
        """
        ...

    async def read_items(self, item_ids: Sequence[str]) -> FeatureBatch:
        """The items' rows, likewise. For refresh and inspection: never one call per candidate."""
        ...

    async def close(self) -> None:
        """Gives the connections back, on the event loop that read. Reading afterwards raises
        `OnlineStoreError`."""
        ...
