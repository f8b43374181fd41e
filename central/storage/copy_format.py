"""Rows in Postgres' binary COPY format, made of whole numpy columns at once.

Source: PostgreSQL 18, COPY, "Binary Format".
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 UTC, where Postgres counts timestamps from, in microseconds since 1970."""


def timestamps(observed_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert microseconds since 1970 to the form of `timestamptz`; exact."""
    return observed_at - POSTGRES_EPOCH_US


def encode_rows(count: int, *columns: NDArray[Any] | None) -> bytearray:
    """Write `count` rows of fixed-width columns; None is a column that is NULL in every row.

    A column's type is the type that is written: int16, int32, int64 or float64.
    """
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for at, column in enumerate(columns):
        layout.append((f"length{at}", ">i4"))
        if column is not None:
            layout.append((f"value{at}", column.dtype.newbyteorder(">").str))
    rows = np.empty(count, np.dtype(layout))
    rows["fields"] = len(columns)
    for at, column in enumerate(columns):
        rows[f"length{at}"] = -1 if column is None else column.dtype.itemsize
        if column is not None:
            rows[f"value{at}"] = column
    return bytearray(HEADER + rows.tobytes() + TRAILER)
