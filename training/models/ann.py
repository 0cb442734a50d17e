"""Approximate top-k by inner product for large catalogues, and the choice between it and the exact index.

An inverted file (Jégou, Douze & Schmid, "Product quantization for nearest neighbor search", TPAMI 2011; the
library: Douze et al., "The Faiss library", 2024) of vectors rounded to one byte a dimension; what it finds is
scored again from the float32 rows, so that every score returned is exact. Does not belong here: which items a
query may see.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.models.arrays import Float32, Int32, Mask
from training.models.index import GATHER, top_k, top_k_of, usable

# Items from which an ANN may answer. At 100,000 x 64 the exact index takes 1.7 ms and the ANN 0.4, where all
# other stages of a request take about 2; below, what it saves is not worth its losses.
APPROXIMATE_FROM = 100_000
# Share of the exact top 100 that an ANN must bring for stored vectors as queries. 0.95 is wanted for users',
# which lie a little farther from the items than the items do: one to two points of recall.
RECALL = 0.97
# Lists for n items: LISTS * sqrt(n). At 1,000,000 x 128, 2 builds in 16 s and finds the recall in 1.5 ms;
# 4 in 30 s and 1.2 ms.
LISTS = 4
# Shares of the lists to try, ascending; the first that has the recall is used. Beyond 1/16 a search costs
# more than a tenth of the exact one, which then is the better answer.
PROBES = (
    1 / 1024,
    1 / 724,
    1 / 512,
    1 / 362,
    1 / 256,
    1 / 181,
    1 / 128,
    1 / 90,
    1 / 64,
    1 / 45,
    1 / 32,
    1 / 23,
    1 / 16,
)
# Finds fetched for each one returned: rounding to a byte swaps neighbours near the k-th place. 1.25 lifts
# recall by 0.01 at 1,000,000 x 128, and more adds nothing there.
FETCH = 1.5
# How lists to probe grow with the rank to reach, k * n / allowed items. A tenth allowed at 1,000,000 x 128:
# 1 takes 5.0 ms, 0.75 takes 2.9, 0.5 takes 2.1 (exact: 24); but where clusters are as small as k, 0.5 found
# 0.88 of the answer and 0.75 found 0.91.
WIDEN = 0.75
# Vectors asked for to measure recall, and answers to each; its standard error is then below 0.01.
SAMPLE = 100
TUNED_K = 100
# Points a list to train on (the least that Faiss takes without a warning), and rounds of k-means. Ten rounds
# on 64 points took four times as long and found as much.
TRAIN_POINTS = 39
TRAIN_ROUNDS = 4


class AnnIndex:
    """Scans the lists whose centres are nearest to the query. Filters act in the scan, which widens as they
    narrow. Equal vectors build equal indices on one machine. One thread a search.

    Holds the caller's float32 rows (no copy), and d + 8 bytes an item beside them.

    Attributes:
        recall: of the exact top 100, for a sample of the stored vectors as queries.
    """

    def __init__(self, vectors: Float32, queries: Float32 | None = None, recall: float = RECALL) -> None:
        """Builds, and probes as few lists as reach `recall`, or as many as `PROBES` allows.

        Args:
            vectors: float32 [n, d], n > 0, row i for item i.
            queries: float32 [m, d] to measure recall with, m > 0; None takes some of `vectors`. Give real
                ones where they are at hand: users' vectors need not lie where items' do.

        Raises:
            ValueError: `vectors` are not a float32 matrix, or empty, or hold a NaN or an infinity.
            ModuleNotFoundError: Faiss is not installed.
        """
        self._vectors = usable(vectors)
        if not len(vectors):
            raise ValueError("an approximate index needs at least one vector")
        self._faiss = _faiss()
        self._lists = max(1, min(round(LISTS * math.sqrt(len(vectors))), len(vectors) // TRAIN_POINTS))
        self._index = self._built()
        self.recall = self._tune(self._sample() if queries is None else queries, recall)

    @classmethod
    def stored(cls, vectors: Float32, index: NDArray[np.uint8], probes: int, recall: float) -> AnnIndex:
        """What `serialised` was made of, over the same vectors."""
        found = cls.__new__(cls)
        found._vectors, found._faiss = vectors, _faiss()
        found._faiss.omp_set_num_threads(1)
        found._index = found._faiss.deserialize_index(np.ascontiguousarray(index))
        found._lists, found._probes, found.recall = int(found._index.nlist), probes, recall
        return found

    @property
    def probes(self) -> int:
        """Lists that a search looks into, of `100` items among all."""
        return self._probes

    def serialised(self) -> NDArray[np.uint8]:
        """The lists as Faiss writes them; without the vectors, and without `probes` and `recall`."""
        written: NDArray[np.uint8] = self._faiss.serialize_index(self._index)
        return written

    def search(self, query: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """As many items as the exact index would return, of which some may be lower ones; exact scores."""
        if query.shape != self._vectors.shape[1:]:
            raise ValueError(f"the query must be [{self._vectors.shape[1]}], not {list(query.shape)}")
        n = len(self._vectors)
        count = n if allowed is None else int(np.count_nonzero(allowed))
        if count == n:
            allowed = None
        if not 0 < k < count:
            return top_k(self._vectors @ query, k, allowed)
        if allowed is not None and count < GATHER * n:
            return top_k_of(self._vectors, np.flatnonzero(allowed), query, k)
        selector = None
        if allowed is not None:
            selector = self._faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        reach = max(
            1.0, k / TUNED_K * n / count
        )  # the best k of the allowed are about the best k * n / count
        probes = math.ceil(self._probes * reach**WIDEN)
        while len(found := self._scan(query, k, probes, selector)) < k and probes < self._lists:
            probes *= 2
        return top_k_of(self._vectors, found, query, k)

    def _scan(self, query: Float32, k: int, probes: int, selector: Any = None) -> NDArray[np.int64]:
        """FETCH * k items, or fewer where the lists hold no more, in the order of their index."""
        settings = self._faiss.SearchParametersIVF(nprobe=min(probes, self._lists), sel=selector)
        _, found = self._index.search(query[None], math.ceil(FETCH * k), params=settings)
        ascending: NDArray[np.int64] = np.sort(found[found >= 0])
        return ascending

    def _built(self) -> Any:
        self._faiss.omp_set_num_threads(1)  # a replica has one core; Faiss takes all of the machine's
        kind = f"IVF{self._lists},SQ8"
        index = self._faiss.index_factory(self._vectors.shape[1], kind, self._faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid = TRAIN_ROUNDS, TRAIN_POINTS
        index.train(self._vectors)
        index.add(self._vectors)
        return index

    def _tune(self, queries: Float32, target: float) -> float:
        """Sets `_probes`; gives the recall."""
        k = min(TUNED_K, len(self._vectors))
        exact = [
            top_k(scores, k)[0]
            for few in np.split(queries, range(8, len(queries), 8))  # 8 scores an item at a time in memory
            for scores in few @ self._vectors.T
        ]
        recall = 0.0
        for share in PROBES:
            self._probes = math.ceil(share * self._lists)
            scans = (self._scan(query, k, self._probes) for query in queries)
            found = [
                top_k_of(self._vectors, rows, query, k)[0] for rows, query in zip(scans, queries, strict=True)
            ]
            recall = float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]))
            if recall >= target:
                break
        return recall

    def _sample(self) -> Float32:
        count = min(SAMPLE, len(self._vectors))
        return self._vectors[np.random.default_rng(0).choice(len(self._vectors), count, replace=False)]


def approximate(vectors: Float32, queries: Float32 | None = None) -> AnnIndex | None:
    """An ANN for a catalogue of `APPROXIMATE_FROM` items or more that reaches `RECALL`; None for a smaller
    one, and for one whose vectors have no neighbourhoods to find. Arguments as `AnnIndex`'s."""
    if len(vectors) < APPROXIMATE_FROM:
        return None
    index = AnnIndex(vectors, queries)
    return index if index.recall >= RECALL else None


def _faiss() -> Any:
    """Loaded only where a catalogue needs it: 80 MB on disk."""
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "a catalogue of this size needs Faiss for approximate retrieval: pip install faiss-cpu"
        ) from missing
