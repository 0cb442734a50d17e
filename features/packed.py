"""A row of features as one value: what the online read asks Redis for, instead of a value for each feature.

Little-endian, in this order; the counts and the kinds of the layout's features say where everything lies:

    bytes           what
    8               version: the low half of MurmurHash3 x64-128 over all bytes after it; never 0
    8               fingerprint of the layout: format, entity, and the features' names and kinds in order
    4 (1 + lists)   bytes of text, then the length of each list feature
    0 or 4          padding to a multiple of 8
    8 each          times: one for each time feature, then the cells of the lists of times
    4 each          numbers, likewise, then the cells of the lists of hashes
    text            all strings, UTF-8: categories and texts, then the cells of the lists of strings. Each has
                    a separator before it, which is the first character of the text and in none of the strings

Does not belong here: Feast, Redis, and defaults of missing values (the columns packed have them already).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import mmh3
import numpy as np
from numpy.typing import NDArray

from features.schema import FORMAT, Feature, Kind
from features.store import Column, OnlineStoreError
from features.transforms import column

PACKED_FORMAT = 2
"""Raised when the order or the meaning of a packed row's bytes changes."""

_WORDS = (Kind.CATEGORY, Kind.TEXT)
_LISTS_OF_WORDS = (Kind.CATEGORIES, Kind.IDS)
_VERSION: Final = struct.Struct("<Q")
_F8, _F4, _U4 = np.dtype("<f8"), np.dtype("<f4"), np.dtype("<u4")


class RowLayout:
    """Packs and unpacks rows of one entity's features; made once, from its part of the schema."""

    def __init__(self, entity: str, features: Sequence[Feature]) -> None:
        def names(*kinds: Kind) -> tuple[str, ...]:
            return tuple(feature.name for feature in features if feature.kind in kinds)

        self._order = names(*Kind)
        self._times, self._numbers, self._words = names(Kind.TIME), names(Kind.NUMBER), names(*_WORDS)
        self._time_lists, self._number_lists = names(Kind.TIMES), names(Kind.NUMBERS)
        self._hash_lists, self._word_lists = names(Kind.HASHES), names(*_LISTS_OF_WORDS)
        self._arrays = (*self._time_lists, *self._number_lists, *self._hash_lists)
        self._lists = (*self._arrays, *self._word_lists)
        described = [FORMAT, PACKED_FORMAT, entity, [[feature.name, feature.kind] for feature in features]]
        self.fingerprint: bytes = hashlib.sha256(json.dumps(described).encode()).digest()[:8]
        """Equal where packed rows can be read: scales, vocabularies and defaults are the reader's own."""
        self._head = struct.Struct(f"<Q8sI{len(self._lists)}I" + ("4x" if len(self._lists) % 2 == 0 else ""))
        self._blank = self.pack({feature.name: column(feature, [None]) for feature in features})[0]

    def pack(self, columns: Mapping[str, Column]) -> list[bytes]:
        """Columns [n], defaults filled in, as n packed rows. Equal values give equal bytes.

        Raises:
            UnicodeEncodeError: a string cannot be written as UTF-8 (a lone surrogate).
        """
        size = len(columns[self._order[0]])
        times = _matrix(columns, self._times, _F8, size)
        numbers = _matrix(columns, self._numbers, _F4, size)
        return [
            self._pack_row(times[row], numbers[row], {name: columns[name][row] for name in self._order})
            for row in range(size)
        ]

    def _pack_row(self, times: NDArray[Any], numbers: NDArray[Any], cells: Mapping[str, Any]) -> bytes:
        strings = [cells[name] for name in self._words]
        strings.extend(word for name in self._word_lists for word in cells[name])
        text = _joined(strings)
        head = self._head.pack(0, self.fingerprint, len(text), *(len(cells[name]) for name in self._lists))
        body = b"".join(
            (
                head[_VERSION.size :],
                times.tobytes(),
                *(np.asarray(cells[name], _F8).tobytes() for name in self._time_lists),
                numbers.tobytes(),
                *(np.asarray(cells[name], _F4).tobytes() for name in self._number_lists),
                *(np.asarray(cells[name], _U4).tobytes() for name in self._hash_lists),
                text,
            )
        )
        return _VERSION.pack(_hash(body)) + body

    def versions(self, columns: Mapping[str, Column]) -> NDArray[np.uint64]:
        """What `unpack` says of these columns once packed, uint64 [n]."""
        return np.array([_VERSION.unpack_from(row)[0] for row in self.pack(columns)], np.uint64)

    def unpack(self, rows: Sequence[bytes | None]) -> tuple[dict[str, Column], NDArray[np.uint64]]:
        """Packed rows (None: there is none) as columns [n] in the schema's order, defaults where there is no
        row, and their versions, uint64 [n], 0 where there is no row.

        Raises:
            OnlineStoreError: a row is cut short, damaged or of another layout.
        """
        versions = np.array([0 if row is None else self._checked(row) for row in rows], np.uint64)
        lists = np.empty((len(self._lists), len(rows)), np.object_)
        times, numbers, texts, sizes = [], [], [], []
        for place, row in enumerate(rows):
            parts = self._parts(self._blank if row is None else row)
            times.append(parts[0])
            numbers.append(parts[1])
            texts.append(parts[2])
            sizes.append(parts[3])
            for line, cell in enumerate(parts[4]):
                lists[line, place] = cell
        columns: dict[str, Column] = dict(zip(self._lists, lists, strict=True))
        columns |= zip(self._times, _matrix_of(b"".join(times), _F8, len(self._times)), strict=True)
        columns |= zip(self._numbers, _matrix_of(b"".join(numbers), _F4, len(self._numbers)), strict=True)
        columns |= zip(self._words, self._strings(texts, sizes, lists), strict=True)
        return {name: columns[name] for name in self._order}, versions

    def _parts(self, row: bytes) -> tuple[bytes, bytes, bytes, list[int], list[NDArray[Any]]]:
        """The row's times, numbers and text, the lengths of its lists of strings, and its other lists."""
        _, _, text_bytes, *lengths = self._head.unpack_from(row)
        first, second = len(self._time_lists), len(self._time_lists) + len(self._number_lists)
        at = self._head.size + 8 * len(self._times)
        times, cells = row[self._head.size : at], []
        for length in lengths[:first]:
            cells.append(np.frombuffer(row, _F8, length, at))
            at += 8 * length
        numbers = row[at : (at := at + 4 * len(self._numbers))]
        for place, length in enumerate(lengths[first : len(self._arrays)], first):
            cells.append(np.frombuffer(row, _F4 if place < second else _U4, length, at))
            at += 4 * length
        return times, numbers, row[at : at + text_bytes], lengths[len(self._arrays) :], cells

    def _strings(
        self, texts: Sequence[bytes], sizes: Sequence[Sequence[int]], lists: NDArray[np.object_]
    ) -> NDArray[np.object_]:
        """The words, [words, n]. Fills in the lists of strings, which have these sizes in each row."""
        split = _split(texts)
        strings = np.fromiter(split, np.object_, len(split))
        words = np.empty((len(self._words), len(texts)), np.object_)
        first, at = len(self._arrays), 0
        for place, lengths in enumerate(sizes):
            words[:, place] = strings[at : (at := at + len(words))]
            for line, length in enumerate(lengths, first):
                lists[line, place] = strings[at : (at := at + length)]
        return words

    def _checked(self, row: bytes) -> int:
        """The row's version, once its bytes are found to be those that were written, in this layout."""
        if row[8:16] != self.fingerprint:
            raise OnlineStoreError(
                "an online row is of another layout than the bundle's: run `marquee features`, or serve a "
                "bundle trained on the features that are online"
            )
        version: int = _VERSION.unpack_from(row)[0]
        if version != _hash(memoryview(row)[_VERSION.size :]):
            raise OnlineStoreError("an online row is damaged: run `marquee features --force`")
        return version


def _hash(body: bytes | memoryview) -> int:
    return mmh3.mmh3_x64_128_utupledigest(body)[0] or 1


def _matrix(
    columns: Mapping[str, Column], names: Sequence[str], dtype: np.dtype[Any], size: int
) -> NDArray[Any]:
    """[n, names]; of no names too."""
    out = np.empty((size, len(names)), dtype)
    for place, name in enumerate(names):
        out[:, place] = columns[name]
    return out


def _matrix_of(rows: bytes, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
    """Rows of `width` values each as [width, n]."""
    return np.frombuffer(rows, dtype).reshape(-1, width).T.copy() if width else np.empty((0, 0))


def _joined(strings: Sequence[str]) -> bytes:
    used = set().union(*strings)
    separator = next(character for character in map(chr, count()) if character not in used)
    return "".join([separator + string for string in strings]).encode()


def _split(texts: Sequence[bytes]) -> list[str]:
    """The strings of all texts, one text after the other; in one go where all have the same separator, as
    they have unless a string holds the null character."""
    if all(text[:1] in (b"", b"\0") for text in texts):
        return b"".join(texts).decode().split("\0")[1:]
    each = (text.decode() for text in texts if text)
    return [string for text in each for string in text.split(text[0])[1:]]
