"""Marks of what changed, for whoever computes rollups: (minute, block of 256 points)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.collapse import Rows
from central.storage.copy_format import encode_rows, timestamps
from central.storage.database import Connection, copy_rows

MINUTE_US: Final = 60_000_000
BLOCK_SHIFT: Final = 8
_BLOCK_BITS: Final = 32 - BLOCK_SHIFT
_FIRST_BLOCK: Final = -(1 << _BLOCK_BITS - 1)


async def mark_dirty(connection: Connection, rows: Rows) -> None:
    """Append one mark per minute and block of points that these rows touch."""
    minutes, blocks = marks_of(rows)
    data = encode_rows(len(minutes), timestamps(minutes * MINUTE_US), blocks)
    await copy_rows(connection, "dirty_marks", ("minute", "block"), data)


def marks_of(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Give each (minute, block) that these rows touch, once."""
    minutes = rows.columns.observed_at // MINUTE_US
    blocks = rows.columns.series >> BLOCK_SHIFT
    # Rows are sorted by point and time, so most have the mark of the row before.
    is_other = np.ones(len(rows), bool)
    is_other[1:] = (minutes[1:] != minutes[:-1]) | (blocks[1:] != blocks[:-1])
    # One number each, which sorts many times faster than a pair: 34 bits are enough for minutes.
    marks = np.unique(minutes[is_other] << _BLOCK_BITS | blocks[is_other] - _FIRST_BLOCK)
    low = marks & (1 << _BLOCK_BITS) - 1
    return marks >> _BLOCK_BITS, (low + _FIRST_BLOCK).astype(np.int32)
