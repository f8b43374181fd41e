"""The array of readings of a `ReadingBatch` in Avro's binary form, by whole columns in numpy.

Byte for byte what fastavro writes, many times faster for batches of some size. A reading is three
integers of variable length around the eight bytes of its value:

    point_id (1..5)  observed_at (1..10)  value (8)  quality (1..5)

`avro_integers` has the integers of a column.

**Writing.** A table of one row a reading, as wide as each column's widest integer, and a mask of
the bytes that are there; those, row by row, are the array.

**Reading.** As long as all integers are as wide as those of the reading before, `avro_tables` reads
them. Otherwise, where a reading begins is known only when the one before it was read, and the bytes
of values look like ends of integers. So for *every* byte the end of an integer that would begin
there is found at once; three steps through that give the end of a reading that would begin there,
and a short loop follows those from the first reading to the last.

What is not the usual form is left to fastavro as a whole: few readings, several blocks or blocks
with a length, integers of more than eight bytes, and all that is broken.
Source: Avro specification 1.12, "Binary Encoding".
"""

from typing import Any, Final, cast

import numpy as np

from central.messaging.avro_integers import (
    SEVENS,
    WORD,
    Bytes,
    Flags,
    Places,
    Words,
    fits,
    gather,
    spread,
)
from central.messaging.avro_tables import FEWEST, PORTION, read_table
from shared.columns import Columns, concatenate, type_quality, type_series

Part = tuple[Bytes, Flags | None]

FEWEST_WRITTEN: Final = 32
FEWEST_READ: Final = 96
"""Readings from which on columns are faster than one reading after the other, as measured."""
_FIELDS: Final = (
    ("point_id", "int"),
    ("observed_at", "long"),
    ("value", "double"),
    ("quality", "int"),
)
SHORTEST: Final = 1 + 1 + WORD + 1
"""Bytes of the shortest reading."""
_LONGEST: Final = 5 + WORD + WORD + 3


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
    times = spread(columns.observed_at)
    if times is None:
        return None
    parts = [
        cast(Part, spread(columns.series)),  # 32 bits always fit, and 16 do
        times,
        (np.ascontiguousarray(columns.value, "<f8").view(np.uint8).reshape(-1, WORD), None),
        cast(Part, spread(columns.quality)),
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
    if not min(fewest, FEWEST) <= count <= (len(source) - start) // SHORTEST:
        return None
    parts: list[Columns] = []
    left = count
    while left:
        found = read_table(source, start, left)
        if found is None and count >= fewest:
            found = _portion(source, start, min(PORTION, left))
        if found is None:
            return None
        parts.append(found[0])
        left, start = left - len(found[0]), found[1]
    return (concatenate(parts), start + 1) if source[start : start + 1] == b"\x00" else None


def _portion(source: bytes, at: int, count: int) -> tuple[Columns, int] | None:
    size = min(len(source) - at, count * _LONGEST)
    area = np.zeros(size + WORD, np.uint8)
    area[:size] = np.frombuffer(source, np.uint8, size, at)
    ends = _ends(area[:size])
    starts = _starts(ends, count)
    last = starts.pop()
    if last > size:
        return None
    columns = _columns(area, ends, np.array(starts, np.intp))
    return None if columns is None else (columns, at + last)


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
    ends = np.full(size + WORD + 1, size + WORD, np.intp)
    if len(last):
        ends[: last[-1] + 1] = np.repeat(last + 1, np.diff(last, prepend=-1))
    return ends


def _starts(ends: Places, count: int) -> list[int]:
    """Follow the readings from the first on: where each begins, and where the last one ends."""
    values = ends.take(ends)
    after = ends.take(values + WORD, mode="clip").data
    at = 0
    return [0, *(at := after[at] for _ in range(count))]


def _columns(area: Bytes, ends: Places, starts: Places) -> Columns | None:
    """Take the integers and values out of the eight bytes from where each begins."""
    times = ends[starts]
    values = ends[times]
    qualities = values + WORD
    widths = times - starts, values - times, ends[qualities] - qualities
    if max(int(width.max()) for width in widths) > WORD:
        return None
    words: Words = np.ndarray((len(area) - WORD + 1,), "<u8", area, strides=(1,))
    series = gather(words[starts] & SEVENS[widths[0]])
    quality = gather(words[qualities] & SEVENS[widths[2]])
    if not (fits(series, type_series) and fits(quality, type_quality)):
        return None
    return Columns(
        series.astype(type_series),
        gather(words[times] & SEVENS[widths[1]]),
        words[values].view("<f8").astype(np.float64, copy=False),
        quality.astype(type_quality),
    )
