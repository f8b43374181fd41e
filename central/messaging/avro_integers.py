"""Avro's integers by whole columns: spread into bytes, and gathered out of them.

An integer has its sign folded into its lowest bit (zigzag) and is written seven bits a byte, the
lowest first; the high bit of a byte says that more follow. Up to eight bytes of it fit one machine
word, so a column of integers is spread or gathered by a few shifts of a column of words.
Source: Avro specification 1.12, "Binary Encoding".
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.columns import type_quality, type_series

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
Words = NDArray[np.uint64]

WORD: Final = 8
SEVENS: Final = np.array([(1 << 8 * width) // 0xFF * 0x7F for width in range(9)], np.uint64)
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
_NEEDED: Final = (0, 0, 1, 2, 2, 3, 3, 3, 3)
"""How many of the steps integers of so many bytes need."""
_SPREAD: Final = np.array([1 << 8 * width for width in range(1, WORD)], np.uint64)
"""The smallest number, seven bits a byte, that does not fit into one byte, into two, …"""
_ONE: Final = np.uint64(1)
_LIMITS: Final = {kind: np.iinfo(kind) for kind in (type_series, type_quality)}


def spread(column: NDArray[np.integer]) -> tuple[Bytes, Flags | None] | None:
    """Give the bytes of integers, as many columns as the widest has, and which of them are there.

    None instead of flags: all are. None for all: one has more than 56 bits.
    """
    signed = column.astype(np.int64)
    folded = ((signed << 1) ^ (signed >> 63)).view(np.uint64)
    narrowest, widest = _width(int(folded.min())), _width(int(folded.max()))
    if widest > WORD:
        return None
    for lower, upper, _, gap in reversed(_STEPS[: _NEEDED[widest]]):
        folded = (folded & lower) | ((folded << gap) & upper)
    there = None
    if narrowest == widest:
        folded |= _MORE[widest]
    else:
        # The bits are apart by now, but in as many bytes as they will have.
        widths = np.searchsorted(_SPREAD, folded, side="right") + 1
        folded |= _MORE[widths]
        there = np.arange(widest) < widths[:, None]
    return folded.astype("<u8", copy=False).view(np.uint8).reshape(-1, WORD)[:, :widest], there


def gather(words: Words, widest: int = WORD) -> NDArray[np.int64]:
    """Read integers of at most so many bytes; of each word nothing but its `SEVENS` may be left."""
    for lower, upper, _, gap in _STEPS[: _NEEDED[widest]]:
        words = (words & lower) | ((words & upper) >> gap)
    return ((words >> _ONE) ^ (np.uint64(0) - (words & _ONE))).view(np.int64)


def fits(column: NDArray[np.int64], kind: np.dtype[Any]) -> bool:
    """Tell whether numbers fit the type of point ids or qualities."""
    limits = _LIMITS[kind]
    return bool(column.min() >= limits.min and column.max() <= limits.max)


def _width(folded: int) -> int:
    return max(1, (folded.bit_length() + 6) // 7)
