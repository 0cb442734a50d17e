"""Times of events, in whatever unit a column holds them. The unit is decided for the whole column.

Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, or calendar digits: 2019, 201901,
20190131, 201901312359, 20190131235959. A number that does not follow its column is malformed: read in another
unit it would be a moment of 1970.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.cells import Settled, Unsuitable, is_text, numbers_of

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

EARLIEST, LATEST = -2_208_988_800, 7_258_118_400
"""Unix seconds of 1900 and 2200. A time outside is none of an event."""

SUSPICIOUS = 315_532_800
"""Unix seconds of 1980: a column of numbers that ends before it may be counted in another unit."""

_UNITS = (("seconds", 1), ("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 10**9))
_CALENDAR = (
    *((4, "years"), (6, "months (YYYYMM)"), (8, "dates (YYYYMMDD)")),
    *((12, "times (YYYYMMDDhhmm)"), (14, "times (YYYYMMDDhhmmss)")),
)

_SKEW_S = 86_400
"""By which a time may be ahead of this machine's clock without a word: local times without a zone are."""

_SETTLED = -9_200_000_000_000_000_000
"""Added to the seconds of cells that say their unit themselves (ISO 8601, Parquet's times), which keeps them
apart from numbers in one int64 column: no unit reaches that far down."""


def parse_times(column: pa.Array) -> pa.Array:
    """int64 for `settle_times`: numbers as they are, others as unix seconds plus `_SETTLED`; null where the
    cell is no time. Times without a zone are UTC; fractions are dropped.

    Raises:
        Unsuitable: the column's type holds no times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return parse_times(column.cast(kind.value_type))
    if is_text(kind):
        return _of_text(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = pa.timestamp("s", getattr(kind, "tz", None))
        return _settled(column.cast(unit, safe=False).cast(pa.int64()))
    if pa.types.is_boolean(kind):
        raise Unsuitable("values of type bool where times are expected")
    if pa.types.is_signed_integer(kind):
        return column.cast(pa.int64())
    return _whole(numbers_of(column, pa.float64()))


def settle_times(column: pa.ChunkedArray) -> Settled:
    """The whole column as int64 unix seconds, null where a number does not follow the column's unit."""
    raw = column.to_numpy()
    if not len(raw):
        return Settled(column)
    low, high, now = int(raw.min()), int(raw.max()), time.time()
    if low > SUSPICIOUS and high <= now:
        return Settled(column)  # the plain case: unix seconds since 1980
    own = raw < _SETTLED // 2
    numbers = raw[~own]
    seconds = np.where(own, raw - _SETTLED, 0)
    valid = own.copy()
    note = ""
    if len(numbers):
        note, read, fits = _decide(numbers)
        seconds[~own], valid[~own] = read, fits
    valid &= (seconds >= EARLIEST) & (seconds <= LATEST)
    said = "; ".join(filter(None, (note, *_strange(seconds[valid], now))))
    return Settled(pa.chunked_array([pa.array(seconds, pa.int64(), mask=~valid)]), said)


def _strange(seconds: Int64, now: float) -> Iterator[str]:
    """What is to be said of times that are read, but that an event can hardly have."""
    later = seconds[seconds > now + _SKEW_S]
    if len(later):
        yield (
            f"{len(later):,} of {len(seconds):,} times lie in the future, the last on {_day(later.max())}: "
            "is a clock wrong, or the unit another?"
        )
    early = seconds[seconds < SUSPICIOUS]
    if 0 < len(early) < len(seconds) / 2:
        yield (
            f"{len(early):,} of {len(seconds):,} times lie before 1980, the first on {_day(early.min())}: "
            "are missing times written as 0?"
        )


def _day(second: int) -> str:
    return str(np.datetime64(int(second), "s").astype("datetime64[D]"))


def _decide(numbers: Int64) -> tuple[str, Int64, Bool]:
    """What to say, unix seconds [n], and which of them fit, for numbers of one column."""
    for digits, name in _CALENDAR:
        low, high = _calendar_range(digits)
        if ((numbers >= low) & (numbers <= high)).mean() > 0.5:
            seconds, fits = _calendar(numbers, digits)
            if fits.mean() > 0.5:
                return f"{numbers[np.argmax(fits)]} and the like are read as {name}", seconds, fits
    size, shares = np.abs(numbers), []
    for _, scale in _UNITS:
        over = LATEST * (scale // 1_000) if scale > 1 else -1
        shares.append((size > over) & (size <= LATEST * scale))
    best = int(np.argmax([share.mean() for share in shares]))
    name, scale = _UNITS[best]
    seconds, fits = numbers // scale, shares[best]
    if (
        fits.any() and np.median(seconds[fits]) >= SUSPICIOUS
    ):  # else a date among them would be a moment of the seventies
        for digits, _ in _CALENDAR:
            fits = fits & ~(_calendar(numbers, digits)[1] & (seconds < SUSPICIOUS))
    if scale > 1:
        return f"{numbers[np.argmax(fits)]} and the like are read as {name}", seconds, fits
    early = numbers[fits].size and numbers[fits].max() < SUSPICIOUS
    return "read as seconds, all before 1980: is the unit another?" if early else "", seconds, fits


def _calendar_range(digits: int) -> tuple[int, int]:
    """The smallest and the largest number of so many digits that may be a time of 1900 to 2199."""
    if digits == 4:
        return 1900, 2100
    return int("19000101000000"[:digits]), int("21991231235959"[:digits])


def _calendar(numbers: Int64, digits: int) -> tuple[Int64, Bool]:
    """Unix seconds [n] of calendar digits, and which of the numbers are a moment of the calendar."""
    low, high = _calendar_range(digits)
    fits = (numbers >= low) & (numbers <= high)
    rest = np.where(fits, numbers, low) * 10 ** (14 - digits)
    if digits < 8:
        rest += 1_000_000 if digits == 6 else 101_000_000
    day, clock = rest // 1_000_000, rest % 1_000_000
    month = (day // 10_000 - 1970) * 12 + day // 100 % 100 - 1
    months = month.astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day % 100 - 1)
    hours, minutes, seconds = clock // 10_000, clock // 100 % 100, clock % 100
    fits &= (day // 100 % 100 >= 1) & (day // 100 % 100 <= 12) & (day % 100 >= 1)
    fits &= days.astype("datetime64[M]") == months
    fits &= (hours < 24) & (minutes < 60) & (seconds < 60)
    return days.astype(np.int64) * 86_400 + hours * 3_600 + minutes * 60 + seconds, fits


def _settled(seconds: pa.Array) -> pa.Array:
    sane = pc.and_(pc.greater_equal(seconds, EARLIEST), pc.less_equal(seconds, LATEST))
    return pc.add(pc.if_else(sane, seconds, None), _SETTLED)


def _whole(numbers: pa.Array) -> pa.Array:
    sane = pc.and_(pc.is_finite(numbers), pc.less_equal(pc.abs(numbers), float(LATEST * 10**9)))
    return pc.floor(pc.if_else(sane, numbers, None)).cast(pa.int64())


def _of_text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    text = column.cast(pa.string())
    whole = pc.match_substring_regex(text, r"^\s*[+-]?\d{1,18}\s*$")
    exact = pc.utf8_ltrim(pc.utf8_trim_whitespace(pc.if_else(whole, text, None)), "+").cast(pa.int64())
    numeric = pc.coalesce(exact, _whole(numbers_of(text, pa.float64())))
    spelled = pc.replace_substring_regex(text, r"(?i)\s*(utc|gmt)\s*$", "Z")  # as BigQuery exports it
    times = pd.to_datetime(spelled.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    micros = times.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    iso = pa.array(micros // 1_000_000, pa.int64(), mask=times.isna().to_numpy())
    return pc.coalesce(numeric, _settled(iso))
