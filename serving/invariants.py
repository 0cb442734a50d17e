"""What the executor holds every stage to (`serving.stages`): a stage that breaks a law is lost like one that
fails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvariantViolation
from serving.types import CandidateBatch


def distinct(index: NDArray[np.integer]) -> bool:
    """A sort and a comparison: a fifth of the time of np.unique."""
    ascending = np.sort(index)
    return not (ascending[1:] == ascending[:-1]).any()


def whole(batch: CandidateBatch, stage: str) -> CandidateBatch:
    rows = len(batch.item_index)
    for column in (batch.source, batch.retrieval_score, batch.features, batch.score):
        if column is not None and len(column) != rows:
            raise InvariantViolation(f"{stage} gave columns of unequal length")
    return batch


def same_items(before: CandidateBatch, after: CandidateBatch, stage: str) -> CandidateBatch:
    if not np.array_equal(before.item_index, after.item_index):
        raise InvariantViolation(f"{stage} changed the candidates it was given")
    return whole(after, stage)


def a_choice(rows: NDArray[np.integer], batch: CandidateBatch, count: int, stage: str) -> NDArray[np.intp]:
    """Of the batch's rows `count`, or all where there are fewer, each once."""
    wanted = min(count, len(batch))
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise InvariantViolation(f"{stage} chose something other than row indices")
    if len(rows) != wanted or not distinct(rows):
        raise InvariantViolation(f"{stage} chose {len(rows)} rows where {wanted} were due")
    if wanted and (rows.min() < 0 or rows.max() >= len(batch)):
        raise InvariantViolation(f"{stage} chose a row that is not there")
    return rows.astype(np.intp, copy=False)


def best_first(batch: CandidateBatch, stage: str) -> CandidateBatch:
    """Sorted by score. Non-finite scores sink below every other, and become finite so that JSON can say
    them."""
    score = batch.score
    if score is None or score.ndim != 1:
        raise InvariantViolation(f"{stage} set no score")
    finite = np.isfinite(score)
    if finite.all():
        return batch.take(np.argsort(-score, kind="stable"))
    if not finite.any():
        raise InvariantViolation(f"{stage} gave no finite score")
    order = np.argsort(np.where(finite, -score, np.nan), kind="stable")  # NaN sorts last
    sunk = np.where(finite, score, np.float32(score[finite].min() - 1.0))
    return batch.with_score(sunk).take(order)
