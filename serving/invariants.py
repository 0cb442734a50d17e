"""What the executor holds every stage to (`serving.stages`): a stage that breaks one is lost like one that
fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.batch import Candidates
from serving.errors import InvariantViolation
from serving.types import Float32, Int32, Mask
from training.models.arrays import Int64
from training.models.ragged import Ragged


def brought(found: Candidates, b: int, stage: str) -> Candidates:
    """A list for each of b requests, no item twice in one."""
    rows = len(found.item_index)
    if len(found) != b or int(found.row_splits[-1]) != rows:
        raise InvariantViolation(f"{stage} answered {len(found)} of {b} requests")
    if len(found.source) != rows or len(found.retrieval_score) != rows:
        raise InvariantViolation(f"{stage} gave columns of unequal length")
    key = np.sort(found.row << 32 | found.item_index)
    if (key[1:] == key[:-1]).any():
        raise InvariantViolation(f"{stage} brought an item twice")
    return found


def same_items(before: Candidates, after: Candidates, stage: str) -> Candidates:
    """The rows that it was given, with columns as long."""
    if not (
        np.array_equal(before.item_index, after.item_index)
        and np.array_equal(before.row_splits, after.row_splits)
    ):
        raise InvariantViolation(f"{stage} changed the candidates it was given")
    if any(len(column) != len(after.item_index) for column in after.columns.values()):
        raise InvariantViolation(f"{stage} gave columns of unequal length")
    return after


def finite(score: Float32, rows: int, stage: str) -> Float32:
    """float32 [n]. A score that is none is an error, never an order."""
    if score.shape != (rows,):
        raise InvariantViolation(f"{stage} gave {score.size} scores for {rows} candidates")
    if not np.isfinite(score).all():
        raise InvariantViolation(f"{stage} gave a score that is not finite")
    return score.astype(np.float32, copy=False)


def a_choice(chosen: Ragged[np.int64], candidates: Candidates, count: Int32, stage: str) -> Ragged[np.int64]:
    """Of each request's places `count`, or all where there are fewer, each once."""
    wanted: Int64 = np.minimum(candidates.lengths, count)
    whole = int(chosen.row_splits[-1]) == len(chosen.values)
    if not whole or len(chosen) != len(candidates) or not np.array_equal(chosen.lengths, wanted):
        raise InvariantViolation(f"{stage} chose {chosen.lengths.tolist()} where {wanted.tolist()} were due")
    places, row = chosen.values, chosen.row
    if places.ndim != 1 or not np.issubdtype(places.dtype, np.integer):
        raise InvariantViolation(f"{stage} chose {places.dtype} {list(places.shape)} where places were due")
    inside = (places >= candidates.row_splits[row]) & (places < candidates.row_splits[row + 1])
    if not inside.all():
        raise InvariantViolation(f"{stage} chose a row that is not there")
    if len(np.unique(places)) != len(places):
        raise InvariantViolation(f"{stage} chose a row twice")
    return chosen


def a_mask(keep: Mask, rows: int, stage: str) -> Mask:
    """bool [n]. One that is shorter would be stretched over rows that nobody checked."""
    if keep.shape != (rows,) or keep.dtype != np.bool_:
        raise InvariantViolation(f"{stage} gave {keep.dtype} {list(keep.shape)} for {rows} candidates")
    return keep


def one_each(explained: Sequence[Sequence[object]], candidates: Candidates, stage: str) -> None:
    """An explanation of every candidate."""
    if [len(each) for each in explained] != candidates.lengths.tolist():
        raise InvariantViolation(f"{stage} explained other items than it was given")
