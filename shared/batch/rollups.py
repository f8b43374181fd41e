"""Bodies of kind rollups: the columns of `shared.rollups` in the envelope of readings."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.batch.layout import (
    KIND_ROLLUPS,
    MAX_DECOMPRESSED_BYTES,
    UINT64,
    Reader,
    Unsigned,
    column,
    seal,
    unseal,
    unzigzag,
    zigzag,
)
from shared.clock import EARLIEST_US, LATEST_US
from shared.errors import BatchInvalid
from shared.rollups import ROLLUP, Rollups

MAX_ROLLUPS: Final = 200_000
LONGEST_US: Final = 366 * 86_400_000_000
_NUMBERS: Final = ("sum", "min", "max", "mean", "first", "last")
_INT32_MAX: Final = 2**31 - 1
_NAN: Final = np.uint64(0x7FF8_0000_0000_0000)


def encode_rollups(rollups: Rollups, level: int = 3) -> bytes:
    """Seal rollups: `decode_rollups` gives the same rows, sorted by series, width and start.

    Raises ValueError for more than `MAX_ROLLUPS`: cut the batch smaller.
    """
    if len(rollups) > MAX_ROLLUPS:
        msg = f"{len(rollups)} rollups; a batch carries at most {MAX_ROLLUPS}"
        raise ValueError(msg)
    rows = rollups[np.lexsort((rollups["start"], rollups["width"], rollups["series"]))]
    parts = [_steps(rows["series"]), _steps(rows["start"])]
    parts += [_plain(rows[name]) for name in ("width", "known", "count", "good_count")]
    for name in ("first_at", "last_at"):
        parts.append(_plain(np.where(rows["good_count"] > 0, rows[name] - rows["start"], 0)))
    parts += [_bits(rows[name]) for name in _NUMBERS]
    return seal(b"".join(parts), len(rows), level, KIND_ROLLUPS)


def decode_rollups(
    body: bytes, *, points: int = _INT32_MAX, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> Rollups:
    """Read sealed rollups of a point set of `points` points.

    Raises `BatchInvalid` with a code of docs/reference/batch.md, whatever the bytes are.
    """
    payload, count = unseal(body, max_bytes, MAX_ROLLUPS, KIND_ROLLUPS)
    reader = Reader(payload)
    rows = np.zeros(count, ROLLUP)
    series, start = _unstepped(reader, count), _unstepped(reader, count)
    whole = [reader.column(count) for _ in range(6)]
    numbers = [reader.column(count).view(np.float64) for _ in _NUMBERS]
    reader.end()
    if count:
        _check(points, series, start, whole)
    rows["series"], rows["start"] = series, start
    for name, given in zip(("width", "known", "count", "good_count"), whole, strict=False):
        rows[name] = given.view(np.int64)
    is_good = rows["good_count"] > 0
    for name, given in zip(("first_at", "last_at"), whole[4:], strict=True):
        rows[name] = np.where(is_good, start + given.view(np.int64), 0)
    for name, values in zip(_NUMBERS, numbers, strict=True):
        rows[name] = values
    return rows


def _check(
    points: int, series: NDArray[np.int64], start: NDArray[np.int64], whole: list[Unsigned]
) -> None:
    if int(series.min()) < 0 or int(series.max()) >= points:
        detail = f"series {series.min()} to {series.max()} in a set of {points} points"
        raise BatchInvalid("bad_series", detail)
    width, known, count, good_count, first, last = whole
    if int(width.min()) < 1 or int(width.max()) > LONGEST_US:
        raise BatchInvalid("bad_rollup", f"windows of {width.min()} to {width.max()} µs")
    if int(start.min()) < EARLIEST_US or int(start.max()) > LATEST_US - LONGEST_US:
        raise BatchInvalid("bad_rollup", "a window lies outside the years 1 to 9999")
    is_wrong = (known > width) | (good_count > count) | (count > _INT32_MAX)
    is_wrong |= (good_count > 0) & ((first > last) | (last >= width))
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise BatchInvalid("bad_rollup", f"row {row}: its counts or times cannot be")


def _steps(numbers: NDArray[np.integer]) -> bytes:
    wide = numbers.astype(np.int64)
    return column(zigzag(wide - np.concatenate(([0], wide[:-1]))))


def _unstepped(reader: Reader, count: int) -> NDArray[np.int64]:
    return np.cumsum(unzigzag(reader.column(count)))


def _plain(numbers: NDArray[np.integer]) -> bytes:
    return column(numbers.astype(np.int64).view(UINT64))


def _bits(numbers: NDArray[np.float64]) -> bytes:
    bits = np.ascontiguousarray(numbers).view(UINT64)
    return column(np.where(np.isnan(numbers), _NAN, bits))
