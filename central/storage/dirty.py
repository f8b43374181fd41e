"""Marks of what changed, for whoever computes rollups: (minute, block of 256 points)."""

from typing import Final

import numpy as np

from central.storage.collapse import Rows
from central.storage.copy_format import encode_rows, timestamps
from central.storage.database import Connection, copy_rows

MINUTE_US: Final = 60_000_000
BLOCK_SHIFT: Final = 8


async def mark_dirty(connection: Connection, rows: Rows) -> None:
    """Append one mark per minute and block of points that these rows touch."""
    minutes = rows.columns.observed_at // MINUTE_US
    blocks = rows.columns.series >> BLOCK_SHIFT
    marks = np.unique(np.stack([minutes, blocks.astype(np.int64)]), axis=1)
    data = encode_rows(marks.shape[1], timestamps(marks[0] * MINUTE_US), marks[1].astype(np.int32))
    await copy_rows(connection, "dirty_marks", ("minute", "block"), data)
