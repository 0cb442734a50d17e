"""How far a batch is on its way through a pipeline. Immutable: a thread that is given up writes nothing.

Does not belong here: what comes next, and what a loss means (`serving.pipeline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.batch import Candidates, Queries, Rows, UInt32
from serving.types import Explanation, Float64, Mask
from training.models.arrays import Int64


@dataclass(frozen=True, slots=True)
class Loss:
    """A stage that was lost to some requests. `reason`: the class of the error, never its text."""

    stage: str
    reason: str
    rows: Int64


@dataclass(frozen=True, slots=True)
class Timing:
    """What one stage took for all requests that it was for.

    Attributes:
        began: seconds on the monotonic clock of the machine that it ran on.
        seconds: of wall time.
        candidates_in, candidates_out: int64 [b], how many each request's stage was given and kept.
        rows: bool [b], the requests that it was for.
    """

    stage: str
    began: float
    seconds: float
    candidates_in: Int64
    candidates_out: Int64
    rows: Mask


@dataclass(frozen=True, slots=True)
class State:
    """Of b requests.

    Attributes:
        deadline: float64 [b], seconds on this machine's monotonic clock.
        brought: by each source of the pipeline; None where it was not asked yet, or lost for all, and again
            after the blend.
        contributed: uint32 [b], bit i set where source i brought anything.
        candidates: after the blend; at the end the items to show, in order.
        explanations: for each request one of each item, or empty.
        refused: for each request why it cannot be answered, or None.
    """

    queries: Queries
    deadline: Float64
    brought: tuple[Candidates | None, ...]
    contributed: UInt32
    candidates: Candidates
    explanations: tuple[tuple[Explanation, ...], ...]
    refused: tuple[str | None, ...]
    losses: tuple[Loss, ...] = ()
    timings: tuple[Timing, ...] = ()

    @staticmethod
    def begin(queries: Queries, deadline: Float64, sources: int) -> State:
        b = len(queries)
        nothing = Candidates.empty(b)
        return State(
            queries, deadline, (None,) * sources, np.zeros(b, np.uint32), nothing, ((),) * b, (None,) * b
        )

    def __len__(self) -> int:
        return len(self.queries)

    def __bool__(self) -> bool:
        return True

    def take(self, rows: Rows) -> State:
        """The same of some requests, without what happened so far."""
        at = rows.tolist()
        return State(
            self.queries.take(rows),
            self.deadline[rows],
            tuple(None if each is None else each.take(rows) for each in self.brought),
            self.contributed[rows],
            self.candidates.take(rows),
            tuple(self.explanations[row] for row in at),
            tuple(self.refused[row] for row in at),
        )

    def put(self, parts: Sequence[tuple[Rows, State]]) -> State:
        """The state with what became of these requests; the others stay as they are."""
        b = len(self)
        if len(parts) == 1 and len(parts[0][0]) == b and (parts[0][0] == np.arange(b)).all():
            return replace(parts[0][1], losses=self.losses, timings=self.timings)
        done = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)]).astype(np.int64)
        rest = np.setdiff1d(np.arange(b), done)
        every = [(rest, self.take(rest)), *parts] if len(rest) else list(parts)
        brought = []
        for source in range(len(self.brought)):
            known = [(rows, part.brought[source]) for rows, part in every]
            there = [(rows, found) for rows, found in known if found is not None]
            brought.append(Candidates.join(there, b) if there else None)
        explanations, refused = list(self.explanations), list(self.refused)
        contributed = self.contributed.copy()
        for rows, part in every:
            contributed[rows] = part.contributed
            for place, row in enumerate(rows.tolist()):
                explanations[row], refused[row] = part.explanations[place], part.refused[place]
        return replace(
            self,
            brought=tuple(brought),
            contributed=contributed,
            candidates=Candidates.join([(rows, part.candidates) for rows, part in every], b),
            explanations=tuple(explanations),
            refused=tuple(refused),
        )

    @property
    def open(self) -> Mask:
        """bool [b]: requests that may still be answered."""
        return np.fromiter((why is None for why in self.refused), np.bool_, len(self.refused))

    def lose(self, stage: str, error: BaseException, rows: Int64) -> State:
        return replace(self, losses=(*self.losses, Loss(stage, type(error).__name__, rows)))

    def refuse(self, rows: Int64, why: str) -> State:
        refused = list(self.refused)
        for row in rows.tolist():
            refused[row] = refused[row] or why
        return replace(self, refused=tuple(refused))

    def took(self, timing: Timing) -> State:
        return replace(self, timings=(*self.timings, timing))
