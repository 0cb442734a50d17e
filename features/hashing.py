"""Item ids as numbers of fixed size, for sets of them that are stored and only ever asked for membership."""

from __future__ import annotations

from collections.abc import Iterable

import mmh3
import numpy as np
from numpy.typing import NDArray


def hashed(item_ids: Iterable[str]) -> NDArray[np.uint32]:
    """uint32 [n]: MurmurHash3 x86-32 of each id as UTF-8, the same in every process and release. An id may be
    any string; mmh3's own encoding ends the process at half a surrogate pair, which JSON lets a client send.

    Four bytes are enough for what a set of them decides. An item that was met is always found again; one
    that was not is taken for met with a chance of one in four thousand million for each item in the set.
    """
    return np.fromiter(
        (mmh3.hash(one.encode(errors="surrogatepass"), signed=False) for one in item_ids), np.uint32
    )
