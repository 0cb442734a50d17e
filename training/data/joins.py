"""Whether the ids of interactions are those of items and users: counted, and where they are not, why.

Does not belong here: how one id is read (`ids`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from training.data.manifest import LOW_JOIN, DataError, Join

COMPARED = 100_000
"""Ids of each side that a hint is looked for among: seconds, and a pattern shows in far fewer."""

_SPELLINGS: Mapping[str, Callable[[str], str]] = {  # the smallest first: the first that is best is named
    "capitals": str.casefold,
    "zeros in front": lambda word: word.lstrip("0"),
    "a point and zeros at the end": lambda word: re.sub(r"\.0*$", "", word),
    "quotes or brackets round them": lambda word: word.strip("\"'`[](){}<> "),
    "letters in front": lambda word: re.sub(r"^\D+", "", word),
    "letters and zeros in front": lambda word: re.sub(r"^\D*0*", "", word),
    "what stands before the last of / : # |": lambda word: re.split(r"[/:#|]", word)[-1],
}
"""Differences between two spellings of an id, and what takes each away."""


def joined(interactions: pa.Table, table: pa.Table, key: str, files: tuple[str, str]) -> tuple[Join, str]:
    """How the interactions' ids meet a table's, and a hint where fewer than half do ("" elsewhere).

    Args:
        interactions: with `key` dictionary-encoded. table: with `key` as text, each id once.
        files: names of the interactions' and of the table's file.

    Raises:
        DataError: the table has rows, and none of them is of an id in interactions.
    """
    used = pc.unique(interactions[key]).cast(pa.string())
    own = table[key].combine_chunks()
    met = used.filter(pc.is_in(used, value_set=own))
    join = Join(files[1], key, len(used), len(met), len(own))
    if join.share >= LOW_JOIN or not len(own):
        return join, ""
    strange = used.filter(pc.invert(pc.is_in(used, value_set=own)))
    hint = _hint(strange.slice(0, COMPARED).to_pylist(), own.slice(0, COMPARED).to_pylist())
    if not join.known:
        raise DataError(
            f"{files[1]}: none of its {len(own):,} ids is in {files[0]}: {key} is {strange[0].as_py()!r} "
            f"there and {own[0].as_py()!r} here{hint}; make them the same, or leave {files[1]} out"
        )
    return join, hint


def _hint(strange: Iterable[str], own: Iterable[str]) -> str:
    """What takes most of the ids to the other side's; "" where nothing takes half of them there."""
    strange, own = list(strange), list(own)
    best, most = "", len(strange) / 2
    for difference, spelled in _SPELLINGS.items():
        there = {spelled(word): word for word in own}
        there.pop("", None)
        met = [(word, there[plain]) for word in strange if (plain := spelled(word)) in there]
        if len(met) >= most and met and (not best or len(met) > most):
            best, most = f" (they would meet without {difference}: {met[0][0]!r} and {met[0][1]!r})", len(met)
    return best
