"""Item-to-item models of large catalogues: `training.fit.linear`'s, each item's weights restricted to a few
neighbours, without ever holding items x items of anything.

Steck, "Markov Random Fields for Collaborative Filtering", NeurIPS 2019, section 3.2: a pattern of the
strongest correlations, then one small dense problem for an item and its neighbours, which also serves the
nearest of these. Where everything is a neighbour of everything, the weights are the dense model's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from training.fit.linear import FUTURE, HALF_LIFE
from training.fit.small_problems import blocks, solved
from training.models.arrays import Float32, Float64, Int32, Int64
from training.models.ragged import Items, Ragged, heads, splits

NEIGHBOURS = 100
"""Of an item at most: what it may be predicted from, and what it may speak for."""

EVIDENCE = 2
"""Users who met both items for these to be neighbours; one is chance, and is most of all pairs."""

REGULARISATION = 30.0
"""Events. Chosen on the validation events of Amazon Toys, where 100 is as good: a small problem needs less to
be kept in check than one of all items, which has 700."""

SHARE = 0.1
"""Of an item's neighbours, the nearest, for which its problem is solved as well (Steck's r). NDCG@10 of 0,
0.1, 0.5 on Amazon Toys: 0.060, 0.057, 0.052 (EASE: 0.056); 0 solves several times as many problems."""

BLOCK_PAIRS = 8 << 20
"""Pairs of a user's items that are counted at once; 0.7 GB a thread while they are."""

WINDOW = 20
"""Events between two items of a sequence for one to lead to the other; beyond, its weight is below a tenth of
the heaviest."""

THREADS = 2


def neighbourhoods(
    offsets: Int64,
    item_index: Int32,
    n_items: int,
    regularisation: float = REGULARISATION,
    most: int = NEIGHBOURS,
    evidence: int = EVIDENCE,
) -> Items:
    """Each item's neighbours, nearest first: those with which the Gram matrix, regularised, has the highest
    correlation.

    Args:
        offsets, item_index: int64 [u + 1] and int32 [e], the users' sequences one after another.
        regularisation: added to the diagonal, events.
    """
    users, items = _met(offsets, item_index, n_items)
    n_users = len(offsets) - 1
    by_user = Ragged(items, splits(np.bincount(users, minlength=n_users)))
    by_item = _by_item(users, items, n_items)
    count = by_item.lengths
    pairs = np.concatenate([[0], np.cumsum(by_user.lengths[by_item.values])])[by_item.row_splits]
    matrix = _ones(by_user.row_splits, items, n_items)

    def nearest(block: tuple[int, int]) -> Items:
        begin, end = block
        at = by_item.row_splits[begin : end + 1]
        counted = _ones(at - at[0], by_item.values[at[0] : at[-1]], n_users) @ matrix
        row = np.repeat(np.arange(begin, end), np.diff(counted.indptr))
        item, both = counted.indices, counted.data
        kept = (both >= evidence) & (item != row)
        row, item, both = row[kept], item[kept], both[kept]
        scale = np.sqrt(count[row] + regularisation) * np.sqrt(count[item] + regularisation)
        order = np.lexsort((item, -both / scale, row))
        row_splits = splits(np.bincount(row - begin, minlength=end - begin))
        best = order[heads(row_splits, most)]
        return Ragged(item[best].astype(np.int32), splits(np.minimum(np.diff(row_splits), most)))

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(nearest, blocks(pairs, BLOCK_PAIRS)))
    return Ragged(
        np.concatenate([np.empty(0, np.int32), *(each.values for each in found)]),
        splits(np.concatenate([np.empty(0, np.int64), *(each.lengths for each in found)])),
    )


def fit_markov_field(
    offsets: Int64,
    item_index: Int32,
    pattern: Items,
    regularisation: float = REGULARISATION,
    share: float = SHARE,
) -> tuple[Items, Float32]:
    """EASE's weights (`linear.fit_ease`), each item predicted from its neighbours alone.

    Args:
        pattern: of `neighbourhoods`.

    Returns:
        For each item those that it speaks for, ascending, and the weights, float32 [m].
    """
    users, items = _met(offsets, item_index, len(pattern))
    by_item = _by_item(users, items, len(pattern))
    return solved(pattern, _MarkovField(by_item, len(offsets) - 1, regularisation), share, NEIGHBOURS)


@dataclass(frozen=True, slots=True)
class _MarkovField:
    """Implements `small_problems.Solve`."""

    by_item: Items
    n_users: int
    regularisation: float

    def __call__(self, of: Int32) -> Float64:
        met = self.by_item.take(of)
        events = _ones(met.row_splits, met.values, self.n_users)
        gram = (events @ events.T).toarray().astype(np.float64)
        gram.flat[:: len(of) + 1] += self.regularisation
        precision = np.linalg.inv(gram)
        found: Float64 = np.asarray(-precision / precision.diagonal(), np.float64)
        np.fill_diagonal(found, 0)
        return found


def fit_successors(
    offsets: Int64,
    item_index: Int32,
    pattern: Items,
    regularisation: float = REGULARISATION,
    half_life: float = HALF_LIFE,
    future: float = FUTURE,
    share: float = SHARE,
    window: int = WINDOW,
) -> tuple[Items, Float32]:
    """The weights of `linear.fit_sequential`, each item predicted from itself and its neighbours alone, and
    pairs of events further apart than `window` left out. Args and returns as `fit_markov_field`."""
    order = np.argsort(item_index, kind="stable")
    lengths = np.diff(offsets)
    faded = 0.5 ** (1 / half_life)
    steps = np.arange(window + 1)
    ahead = np.array([sum(faded**q * future ** (d - 1 - q) for q in range(d)) for d in steps.tolist()])
    successors = _Successors(
        Ragged(order, splits(np.bincount(item_index, minlength=len(pattern)))),
        np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        offsets[1:],
        faded,
        ahead,
        regularisation,
    )
    return solved(pattern, successors, share, NEIGHBOURS)


@dataclass(frozen=True, slots=True)
class _Successors:
    """Implements `small_problems.Solve`.

    Attributes:
        places: of each item's events among all events. user: whose each event is. end: where each user's end.
        ahead: weight of an item by how many events it comes after another; of 0 to a window's.
    """

    places: Ragged[np.int64]
    user: Int32
    end: Int64
    faded: float
    ahead: Float64
    regularisation: float

    def __call__(self, of: Int32) -> Float64:
        gram, cross = self._windowed(of)
        gram.flat[:: len(of) + 1] += self.regularisation
        return np.asarray(np.linalg.solve(gram, cross), np.float64)

    def _windowed(self, of: Int32) -> tuple[Float64, Float64]:
        """X'X and X'Y of `linear.fit_sequential` among these items, [d, d] each: sums over the pairs of a
        user's events that are at most a window apart. An event e of a user whose events end at `end` is in
        `end - e - 1` prefixes, in each with its weight there."""
        d, window = len(of), len(self.ahead) - 1
        mine = self.places.take(of)
        order = np.argsort(mine.values, kind="stable")
        place, item = mine.values[order], mine.row[order]
        user = self.user[place]
        prefixes = self.end[user] - 1 - place
        squares = (1 - self.faded ** (2.0 * prefixes)) / (1 - self.faded**2)
        gram = np.bincount(item * (d + 1), squares, d * d)
        cross = np.zeros(d * d)
        for shift in range(1, len(place)):
            near = (user[shift:] == user[:-shift]) & (place[shift:] - place[:-shift] <= window)
            first = np.flatnonzero(near)
            if not len(first):
                break
            second = first + shift
            apart = place[second] - place[first]
            both = self.faded**apart * squares[second]
            a, b = item[first], item[second]
            gram += np.bincount(a * d + b, both, d * d) + np.bincount(b * d + a, both, d * d)
            cross += np.bincount(a * d + b, self.ahead[apart], d * d)
        square = d, d
        return np.asarray(gram.reshape(square), np.float64), np.asarray(cross.reshape(square), np.float64)


def _met(offsets: Int64, item_index: Int32, n_items: int) -> tuple[Int64, Int32]:
    """The distinct pairs of user and item, ascending."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = np.sort(users * n_items + item_index)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    user, item = np.divmod(pairs, n_items)
    return user, item.astype(np.int32)


def _by_item(users: Int64, items: Int32, n_items: int) -> Items:
    """The users who met each item, ascending."""
    order = np.argsort(items, kind="stable")
    return Ragged(users[order].astype(np.int32), splits(np.bincount(items, minlength=n_items)))


def _ones(row_splits: Int64, columns: Int32, width: int) -> csr_array:
    """SciPy's product and not torch's, which keeps 60 MB of every block (2.13, MKL): 6 GB of 8 M events."""
    shape = len(row_splits) - 1, width
    return csr_array((np.ones(len(columns), np.float32), columns, row_splits), shape=shape)
