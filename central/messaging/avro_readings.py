"""The array of readings of a `ReadingBatch` in Avro's binary form, by whole columns in numpy.

Byte for byte what fastavro writes, many times faster for batches of some size. A reading is three
integers of variable length around the eight bytes of its value:

    point_id (1..5)  observed_at (1..10)  value (8)  quality (1..5)

An integer has its sign folded into its lowest bit (zigzag) and is written seven bits a byte, the
lowest first; the high bit of a byte says that more follow. Up to eight bytes of it fit one machine
word, so a column of integers is spread or gathered by a few shifts of a column of words.

**Writing.** A table of one row a reading, as wide as each column's widest integer, and a mask of
the bytes that are there; those, row by row, are the array.

**Reading.** Where a reading begins is known only when the one before it was read, and the bytes of
values look like ends of integers. So for *every* byte the end of an integer that would begin there
is found at once; three steps through that give the end of a reading that would begin there, and a
short loop follows those from the first reading to the last.

What is not the usual form is left to fastavro as a whole: few readings, several blocks or blocks
with a length, integers of more than eight bytes, and all that is broken.
Source: Avro specification 1.12, "Binary Encoding".
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.columns import Columns, concatenate, type_quality, type_series

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
Words = NDArray[np.uint64]

FEWEST_WRITTEN: Final = 32
FEWEST_READ: Final = 96
"""Readings from which on columns are faster than one reading after the other, as measured."""
_FIELDS: Final = (
    ("point_id", "int"),
    ("observed_at", "long"),
    ("value", "double"),
    ("quality", "int"),
)
_WORD: Final = 8
SHORTEST: Final = 1 + 1 + _WORD + 1
"""Bytes of the shortest reading."""
_LONGEST: Final = 5 + _WORD + _WORD + 3
_PORTION: Final = 1_000
"""Readings read at once: what is made of them on the way fits the processor's cache."""
_LIMITS: Final = np.array([1 << 7 * width for width in range(1, _WORD + 1)], np.uint64)
"""The smallest number that does not fit into one byte, into two, …"""
_SEVENS: Final = np.array([(1 << 8 * width) // 0xFF * 0x7F for width in range(9)], np.uint64)
"""The seven bits of each of so many bytes."""
_MORE: Final = np.array([(1 << 8 * width) // 0xFF * 0x80 >> 8 for width in range(9)], np.uint64)
"""The high bit of each of so many bytes but the last."""
_STEPS: Final = tuple(
    (np.uint64(low), np.uint64(low << shift), np.uint64(shift), np.uint64(gap))
    for low, shift, gap in (
        (0x007F_007F_007F_007F, 8, 1),
        (0x0000_3FFF_0000_3FFF, 16, 2),
        (0x0000_0000_0FFF_FFFF, 32, 4),
    )
)
"""Bits of a pair's lower half, of its upper half, how far the halves are apart, and the gap."""
_ONE: Final = np.uint64(1)


def is_served(array: Any) -> bool:
    """Tell whether a parsed schema is the array of readings that is written and read here."""
    items = array.get("items") if isinstance(array, dict) else None
    if not isinstance(items, dict):
        return False
    return tuple((field["name"], field["type"]) for field in items["fields"]) == _FIELDS


def encode(columns: Columns, fewest: int = FEWEST_WRITTEN) -> bytes | None:
    """Write an array of readings: one block, and the empty one that ends it.

    None where it is small, or where a time has more than 56 bits: fastavro writes those.
    """
    if len(columns) < fewest:
        return None
    times = _folded(columns.observed_at)
    if times.max() >= _LIMITS[-1]:
        return None
    parts = [
        _spread(_folded(columns.series.astype(np.int64))),
        _spread(times),
        (np.ascontiguousarray(columns.value, "<f8").view(np.uint8).reshape(-1, _WORD), None),
        _spread(_folded(columns.quality.astype(np.int64))),
    ]
    table = np.concatenate([part for part, _ in parts], axis=1)
    if any(there is not None for _, there in parts):
        table = table[np.concatenate([_flags(*part) for part in parts], axis=1)]
    return b"".join((_integer(len(columns)), table.tobytes(), b"\x00"))


def decode(source: bytes, at: int, fewest: int = FEWEST_READ) -> tuple[Columns, int] | None:
    """Read an array of readings that begins at `at`; gives it (without texts) and where it ends.

    None where fastavro has to read it, or to tell what is wrong with it.
    """
    count, start = _count(source, at)
    if not fewest <= count <= (len(source) - start) // SHORTEST:
        return None
    parts: list[Columns] = []
    for done in range(0, count, _PORTION):
        found = _portion(source, start, min(_PORTION, count - done))
        if found is None:
            return None
        parts.append(found[0])
        start = found[1]
    return (concatenate(parts), start + 1) if source[start : start + 1] == b"\x00" else None


def _portion(source: bytes, at: int, count: int) -> tuple[Columns, int] | None:
    size = min(len(source) - at, count * _LONGEST)
    area = np.zeros(size + _WORD, np.uint8)
    area[:size] = np.frombuffer(source, np.uint8, size, at)
    ends = _ends(area[:size])
    starts = _starts(ends, count)
    last = starts.pop()
    if last > size:
        return None
    columns = _columns(area, ends, np.array(starts, np.intp))
    return None if columns is None else (columns, at + last)


def _folded(column: NDArray[np.int64]) -> Words:
    return ((column << 1) ^ (column >> 63)).view(np.uint64)


def _spread(folded: Words) -> tuple[Bytes, Flags | None]:
    """Give the bytes of integers, as many columns as the widest has, and which of them are there.

    None instead of flags: all are.
    """
    widths = np.searchsorted(_LIMITS, folded, side="right") + 1
    widest = int(widths.max())
    for lower, upper, _, gap in reversed(_STEPS):
        folded = (folded & lower) | ((folded << gap) & upper)
    folded |= _MORE[widths]
    table = folded.astype("<u8", copy=False).view(np.uint8).reshape(-1, _WORD)[:, :widest]
    return table, None if widths.min() == widest else np.arange(widest) < widths[:, None]


def _flags(table: Bytes, there: Flags | None) -> Flags:
    return np.ones(table.shape, np.bool_) if there is None else there


def _integer(number: int) -> bytes:
    """Write one whole number from 0 on."""
    folded, found = number << 1, bytearray()
    while folded > 0x7F:
        found.append(folded & 0x7F | 0x80)
        folded >>= 7
    found.append(folded)
    return bytes(found)


def _count(source: bytes, at: int) -> tuple[int, int]:
    """Read the count of a block and where its readings begin; 0 where that is nothing usual."""
    folded = 0
    for place, byte in enumerate(source[at : at + 5]):
        folded |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return (0 if folded & 1 else folded >> 1), at + place + 1
    return 0, at


def _ends(area: Bytes) -> Places:
    """Tell for every byte where an integer ends that begins there; past everything if nowhere."""
    size = len(area)
    last = np.flatnonzero(area < 0x80)
    ends = np.full(size + _WORD + 1, size + _WORD, np.intp)
    if len(last):
        ends[: last[-1] + 1] = np.repeat(last + 1, np.diff(last, prepend=-1))
    return ends


def _starts(ends: Places, count: int) -> list[int]:
    """Follow the readings from the first on: where each begins, and where the last one ends."""
    values = ends.take(ends)
    after = ends.take(values + _WORD, mode="clip").data
    at = 0
    return [0, *(at := after[at] for _ in range(count))]


def _columns(area: Bytes, ends: Places, starts: Places) -> Columns | None:
    """Take the integers and values out of the eight bytes from where each begins."""
    times = ends[starts]
    values = ends[times]
    qualities = values + _WORD
    widths = times - starts, values - times, ends[qualities] - qualities
    if max(int(width.max()) for width in widths) > _WORD:
        return None
    words: Words = np.ndarray((len(area) - _WORD + 1,), "<u8", area, strides=(1,))
    series = _gathered(words[starts], widths[0])
    quality = _gathered(words[qualities], widths[2])
    if not (_fits(series, type_series) and _fits(quality, type_quality)):
        return None
    return Columns(
        series.astype(type_series),
        _gathered(words[times], widths[1]),
        words[values].view("<f8").astype(np.float64, copy=False),
        quality.astype(type_quality),
    )


def _gathered(words: Words, widths: Places) -> NDArray[np.int64]:
    words = words & _SEVENS[widths]
    for lower, upper, _, gap in _STEPS:
        words = (words & lower) | ((words & upper) >> gap)
    return ((words >> _ONE) ^ (np.uint64(0) - (words & _ONE))).view(np.int64)


def _fits(column: NDArray[np.int64], kind: np.dtype[Any]) -> bool:
    limits = np.iinfo(kind)
    return bool(column.min() >= limits.min and column.max() <= limits.max)
