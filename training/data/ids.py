"""Ids: whatever spells them, `12`, 12, 12.0 and a decimal 12 are one id.

How an id was written is decided for a whole column, never for a cell: `12.0` among names stays a name.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from features.limits import MAX_ID_CHARS
from training.data.cells import MISSING, Settled, Unsuitable, blank_to_null, is_text

MAX_EXACT = 2**53
"""Above it floats skip whole numbers: two ids may have become one, so neither can be trusted."""

_WHOLE = r"^-?(0|[1-9]\d*)$"
_WITH_POINT = r"^-?(0|[1-9]\d{0,15})\.0*$"
_SCIENTIFIC = r"^-?[1-9](\.\d{1,15})?[eE]\+\d{1,2}$"


def parse_ids(column: pa.Array) -> pa.Array:
    """string, null where there is no id of 1 to `MAX_ID_CHARS` characters.

    Text loses the spaces round it, and numbers become their digits.

    Raises:
        Unsuitable: the column's type holds no ids.
    """
    ids = _as_text(column)
    longest = pc.max(pc.utf8_length(ids)).as_py() or 0
    return ids if longest <= MAX_ID_CHARS else pc.if_else(too_long(ids), None, ids)


def parse_coded_ids(column: pa.Array) -> pa.Array:
    """As `parse_ids`, dictionary-encoded: an id repeated in millions of rows costs four bytes a row."""
    if not is_text(column.type):
        return parse_ids(column).dictionary_encode()
    coded = column.cast(pa.string()).dictionary_encode()
    return _recoded(coded, parse_ids(coded.dictionary))


def too_long(ids: pa.Array) -> pa.Array:
    return pc.greater(pc.utf8_length(ids), MAX_ID_CHARS)


def settle_ids(column: pa.ChunkedArray) -> Settled:
    """The ids of a whole column, whole numbers without a point where all of them are numbers and some are
    written with one, as pandas does with a column that has gaps. Cells such as `nan` are then missing ids.
    """
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.unify_dictionaries()
    if not coded.num_chunks or not len(coded.chunk(0).dictionary):
        return Settled(column)
    words = coded.chunk(0).dictionary
    spelled = pc.or_(
        pc.match_substring_regex(words, _WITH_POINT), pc.match_substring_regex(words, _SCIENTIFIC)
    )
    if not pc.any(spelled).as_py():
        return Settled(column)
    missing = pc.is_in(words, value_set=MISSING)
    whole = pc.match_substring_regex(words, _WHOLE)
    digits = [
        _digits(word) if point else word if plain else None
        for word, point, plain in zip(words.to_pylist(), spelled.to_pylist(), whole.to_pylist(), strict=True)
    ]
    made = pa.array(digits, pa.string())
    if pc.any(pc.and_(pc.is_null(made), pc.invert(missing))).as_py():
        return Settled(column)  # not all of them are numbers: they are names
    example = words.filter(spelled)[0].as_py()
    note = f"whole numbers written like {example} are read as {_digits(example)}"
    settled = pa.chunked_array([_recoded(chunk, made) for chunk in coded.chunks])
    return Settled(settled if column.type == settled.type else settled.cast(column.type), note)


def _recoded(coded: pa.DictionaryArray, words: pa.Array) -> pa.DictionaryArray:
    """The column with other words for those of its dictionary; some may be equal, or null."""
    if words.equals(coded.dictionary):
        return coded
    encoded = words.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(coded.indices), encoded.dictionary)


def _digits(word: str) -> str | None:
    number = float(word)
    return str(int(number)) if number.is_integer() and abs(number) <= MAX_EXACT else None


def _as_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(column.cast(kind.value_type))
    if is_text(kind):
        return blank_to_null(column)
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_floating(kind):  # pandas stores integer ids with gaps as floats
        numbers = column.cast(pa.float64())
        whole = pc.and_kleene(
            pc.less_equal(pc.abs(numbers), float(MAX_EXACT)), pc.equal(pc.floor(numbers), numbers)
        )
        return pc.if_else(whole, numbers, None).cast(pa.int64()).cast(pa.string())
    if pa.types.is_decimal(kind):  # NUMBER of Oracle and Snowflake
        numbers = column.cast(pa.decimal256(76, max(kind.scale, 0)))
        return (
            pc.if_else(pc.equal(pc.floor(numbers), numbers), numbers, None)
            .cast(pa.decimal256(76, 0))
            .cast(pa.string())
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return blank_to_null(column.cast(pa.string()))
        except pa.ArrowInvalid:
            raise Unsuitable("ids of bytes that are no UTF-8 text are not supported") from None
    raise Unsuitable(f"ids of type {kind} are not supported: write them as text or whole numbers")
