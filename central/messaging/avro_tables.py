"""Readings in Avro whose integers are as wide as those of the reading before: they form a table.

Most do: ids of some size, times of some century, one quality. That it is so is seen by the high
bits of the integers' bytes: as long as they are those of the first reading, the next one begins
where the table says.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from central.messaging.avro_integers import SEVENS, WORD, Bytes, fits, gather
from shared.columns import Columns, type_quality, type_series

FEWEST: Final = 40
"""Readings from which on a table is read faster than one reading after the other, as measured."""
PORTION: Final = 1_000
"""Readings read at once: what is made of them on the way fits the processor's cache."""
_BEHIND: Final = (0, WORD, 0)
"""Bytes behind point id, time and quality: a reading's value comes after its time."""

Widths = tuple[int, int, int]
"""Bytes of a reading's point id, time and quality."""


def read_table(source: bytes, at: int, most: int) -> tuple[Columns, int] | None:
    """Read from `at` on while integers are as wide as in the first reading, and tell where it ends.

    Reads at most `most` readings and `PORTION`. None where that are few, or nothing usual.
    """
    widths = _widths(source, at)
    if widths is None:
        return None
    size = sum(widths) + WORD
    rows = min(most, PORTION, (len(source) - at) // size)
    area = np.zeros(rows * size + WORD, np.uint8)
    area[: rows * size] = np.frombuffer(source, np.uint8, rows * size, at)
    asked, wanted = _layout(widths)
    is_other = (area & asked[: len(area)]) != wanted[: len(area)]
    first = int(is_other.argmax())
    if is_other[first]:
        rows = first // size
    if rows < min(most, FEWEST):
        return None
    columns = _columns(area, rows, widths)
    return None if columns is None else (columns, at + rows * size)


def _widths(source: bytes, at: int) -> Widths | None:
    """Measure the integers of the reading that begins at `at`; None where one is too wide."""
    widths: list[int] = []
    for behind in _BEHIND:
        width = 1
        while source[at + width - 1 : at + width] > b"\x7f":
            width += 1
        if width > WORD:
            return None
        widths.append(width)
        at += width + behind
    return widths[0], widths[1], widths[2]


@lru_cache(64)
def _layout(widths: Widths) -> tuple[Bytes, Bytes]:
    """Give which bits of a table's bytes tell whether an integer goes on, and what they must be."""
    asked, wanted = bytearray(), bytearray()
    for width, behind in zip(widths, _BEHIND, strict=True):
        asked += b"\x80" * width + bytes(behind)
        wanted += b"\x80" * (width - 1) + bytes(1 + behind)
    rows = PORTION + WORD  # the area is a word longer than its table
    return (
        np.tile(np.frombuffer(asked, np.uint8), rows),
        np.tile(np.frombuffer(wanted, np.uint8), rows),
    )


def _columns(area: Bytes, rows: int, widths: Widths) -> Columns | None:
    """Take the columns of a table; each word of the last row may reach behind it."""
    size = sum(widths) + WORD
    places = 0, widths[0], size - widths[2]

    def column(place: int, kind: str) -> NDArray[Any]:
        return np.ndarray((rows,), kind, area, place, (size,))

    series, times, quality = (
        gather(column(place, "<u8") & SEVENS[width], width)
        for place, width in zip(places, widths, strict=True)
    )
    if not (fits(series, type_series) and fits(quality, type_quality)):
        return None
    return Columns(
        series.astype(type_series),
        times,
        column(widths[0] + widths[1], "<f8").astype(np.float64),
        quality.astype(type_quality),
    )
