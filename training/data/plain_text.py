"""Text files made plain: whatever a table was written in becomes UTF-8 with LF line ends, or is refused.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one; LF, CRLF, CR alone, and mixtures. Line
ends inside quoted cells become LF as well. Does not belong here: what is in the cells.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import BinaryIO, cast

from training.data.manifest import DataError

UNIT_SEPARATOR = "\x1f"
"""Stands for `::` while Arrow, which splits at one character only, reads a `.dat` file."""

MAX_HEADER_BYTES = 1 << 20
"""Of a header line: ten thousand columns. A longer one is a quote that is never closed, or no table."""

_CHUNK = 1 << 20

_MARKS = (  # longest first: the mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_TEXT = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"PK\x03\x04", "is a zip or a workbook: save the table as CSV"),
    (b"PAR1", "is a Parquet file: call it .parquet"),
)


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text file is cut into cells.

    Attributes:
        delimiter: one character, or `::`.
        header: column names where the file has no header line, else None.
        quoted: whether `"` encloses cells (CSV) or is a character like any other.
        encoding: of the text, where no byte order mark says otherwise.
    """

    delimiter: str = ","
    header: tuple[str, ...] | None = None
    quoted: bool = True
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Header:
    """Column names without spaces round them, and where they end: `lines` of the file, `size` plain bytes."""

    names: tuple[str, ...]
    lines: int
    size: int


class PlainText:
    """The file as a stream of plain bytes. Hashes and counts what was read, and counts its quotes.

    Attributes:
        bytes: read from the file so far. digest: SHA-256 of them.
        quotes: `"` so far. tail: the last plain bytes, at most 8.
    """

    def __init__(self, source: Traversable, form: TextFormat, strict: bool = False) -> None:
        """`strict`: a read of bytes that are no UTF-8 raises UnicodeDecodeError."""
        self.name = source.name
        self._strict = codecs.getincrementaldecoder("utf-8")() if strict else None
        self.bytes = self.quotes = 0
        self.tail = b""
        self.closed = False
        self.digest = hashlib.sha256()
        self._double = form.delimiter == "::"
        self._held = self._ahead = b""
        self._stream = cast(BinaryIO, source.open("rb"))
        try:
            self._decoder = self._begin(form.encoding)
        except BaseException:
            self._stream.close()
            raise

    def _begin(self, encoding: str) -> codecs.IncrementalDecoder | None:
        start = self._stream.read(4)
        self._took(start)
        for mark, why in _NO_TEXT:
            if start.startswith(mark):
                raise DataError(f"{self.name} {why}")
        for mark, marked in _MARKS:
            if start.startswith(mark):
                start, encoding = start[len(mark) :], marked
                break
        decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
        self._held = start if decoder is None else decoder.decode(start).encode()
        return decoder

    def read(self, size: int = -1) -> bytes:
        """At most `size` plain bytes, and none only at the end of the file.

        Raises:
            DataError: the bytes are not text in the file's encoding, or hold a NUL.
        """
        if not self._ahead:
            return self._next(size)
        end = len(self._ahead) if size < 0 else size
        plain, self._ahead = self._ahead[:end], self._ahead[end:]
        return plain

    def skip(self, size: int) -> bool:
        """Passes over the next `size` plain bytes, and says whether any follow."""
        while size > 0 and (plain := self.read(_CHUNK)):
            self._ahead, size = plain[size:] + self._ahead, size - len(plain)
        self._ahead = self._ahead or self._next(_CHUNK)
        return bool(self._ahead)

    def _next(self, size: int) -> bytes:
        grows = 1 if self._decoder is None else 2  # a letter of one byte or two takes at most twice as many
        while True:
            raw = self._stream.read(max(1, size // grows - 8) if size > 0 else size)
            self._took(raw)
            plain = self._plain(raw, final=not raw)
            if self._strict is not None:
                plain = _whole_characters(self._strict, plain, final=not raw)
            if plain or not raw:
                return self._counted(plain)

    def _counted(self, plain: bytes) -> bytes:
        if b"\0" in plain:
            raise DataError(f"{self.name}: there is a NUL byte, so it is no text table: save it as UTF-8")
        self.quotes += plain.count(b'"')
        self.tail = (self.tail + plain[-8:])[-8:]
        return plain

    def _took(self, raw: bytes) -> None:
        self.digest.update(raw)
        self.bytes += len(raw)

    def _plain(self, raw: bytes, final: bool) -> bytes:
        if self._decoder is not None:
            try:
                raw = self._decoder.decode(raw, final).encode()
            except UnicodeError as error:
                raise DataError(f"{self.name}: {error}: save it as UTF-8") from error
        text, self._held = self._held + raw, b""
        if not (self._double or b"\r" in text):
            return text
        # A line end or a separator may lie across two reads: its first half waits for what follows.
        end = len(text) if final else len(text.rstrip(b":\r"))
        self._held = text[end:]
        text = text[:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return text.replace(b"::", UNIT_SEPARATOR.encode()) if self._double else text

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._stream.close()


def _whole_characters(decoder: codecs.IncrementalDecoder, plain: bytes, final: bool) -> bytes:
    """What is decoded by now, as bytes: half a character waits for its other half, because Arrow cannot show
    half of one in a row that it refuses.

    Raises:
        UnicodeDecodeError: it is no UTF-8, or ends within a character.
    """
    before, _ = decoder.getstate()
    if plain.isascii() and not before:
        return plain
    decoder.decode(plain, final)
    held, _ = decoder.getstate()
    text = before + plain
    return text[: len(text) - len(held)]


def plain_lines(source: Traversable, form: TextFormat) -> Iterator[bytes]:
    """The lines, without their ends."""
    with closing(PlainText(source, form)) as text:
        held: list[bytes] = []
        while chunk := text.read(_CHUNK):
            first, *more = chunk.split(b"\n")
            held.append(first)
            if more:
                yield b"".join(held)
                yield from more[:-1]
                held = [more[-1]]
        if rest := b"".join(held):
            yield rest


def header_of(source: Traversable, form: TextFormat) -> Header:
    """The column names in the first line that is not blank; "" for a column without one.

    Raises:
        DataError: there is none, it is no text, or two columns have the same name.
    """
    record, lines, size, begun, inside = b"", 0, 0, False, False
    with closing(PlainText(source, form)) as text:
        rest, more = b"", True
        while True:
            while b"\n" not in rest and more and len(rest) <= MAX_HEADER_BYTES:
                chunk = text.read(_CHUNK)
                rest, more = rest + chunk, bool(chunk)
            line, end, rest = rest.partition(b"\n")
            lines, size, begun = lines + 1, size + len(line) + len(end), begun or bool(line.strip())
            record += line + end if begun else b""
            if len(record) > MAX_HEADER_BYTES:
                raise DataError(f"{source.name}: its first line has more than {MAX_HEADER_BYTES:,} bytes")
            inside = form.quoted and _ends_inside(line, inside, form.delimiter.encode())
            if begun and not inside:
                break
            if not end and not more:
                what = "the quote opened in its first line is never closed" if begun else "the file is empty"
                raise DataError(f"{source.name}: {what}")
    return Header(_names(source.name, record, lines, form), lines, size)


def _names(file: str, record: bytes, lines: int, form: TextFormat) -> tuple[str, ...]:
    try:
        text = record.decode().rstrip("\n")
    except UnicodeDecodeError:
        raise not_utf8(file, lines, record) from None
    try:
        # As lines: csv.reader takes line ends inside quotes only from separate ones.
        cells = csv.reader(text.splitlines(keepends=True), delimiter=form.delimiter)
        names = [name.strip() for name in (next(cells) if form.quoted else text.split(form.delimiter))]
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{file}: its first line is no list of column names ({error})") from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: two columns have the same name: {', '.join(twice)}; rename one")
    return tuple(names)


def first_line_not_utf8(source: Traversable, form: TextFormat) -> DataError | None:
    """What to say of the first line that is no UTF-8; None where all are."""
    for number, line in enumerate(plain_lines(source, form), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return not_utf8(source.name, number, line)
    return None


def not_utf8(file: str, line: int, raw: bytes) -> DataError:
    return DataError(
        f"{file}: line {line} is not UTF-8 text ({raw[:60].decode('utf-8', 'backslashreplace')!r}; perhaps "
        f"Latin-1 or Windows-1252): save the file as UTF-8"
    )


def lines_of_records(source: Traversable, form: TextFormat, after: int, records: list[int]) -> dict[int, int]:
    """Number of a record, counted from 1 behind the first `after` lines → its line: they differ by empty
    lines and by line breaks inside quotes."""
    lines: dict[int, int] = {}
    wanted, record, inside, delimiter = set(records), 0, False, form.delimiter.encode()
    if not wanted:
        return lines
    for line, raw in enumerate(plain_lines(source, form), start=1):
        if line <= after:
            continue
        if not inside and raw:
            record += 1
            if record in wanted:
                lines[record] = line
                if len(lines) == len(wanted):
                    break
        inside = form.quoted and (inside or b'"' in raw) and _ends_inside(raw, inside, delimiter)
    return lines


def _ends_inside(line: bytes, inside: bool, delimiter: bytes) -> bool:
    """Whether a line, which begins inside a quoted cell or not, ends inside one. A quote opens a cell only
    where it is the cell's first character."""
    at, begins = 0, not inside
    while True:
        if inside:
            at = line.find(b'"', at)
            if at < 0:
                return True
            inside = line[at + 1 : at + 2] == b'"'  # two stand for one
            at, begins = at + 1 + inside, False
        elif begins and line[at : at + 1] == b'"':
            at, inside = at + 1, True
        else:
            at = line.find(delimiter, at) + 1
            if not at:
                return False
            begins = True


def encoding_of(source: Traversable) -> str:
    """utf-8, or latin-1 where the file is no valid utf-8: GroupLens has used both. Reads the file."""
    try:
        source.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
