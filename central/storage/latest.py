"""The newest reading of every point, in a table of its own: never found by scanning."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.collapse import Rows
from central.storage.database import Connection
from shared.clock import to_datetime

_UPSERT: Final = """
INSERT INTO latest AS kept (point_id, observed_at, received_at, value, quality, text)
SELECT * FROM unnest(
    $1::int4[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::int2[], $6::text[]
) AS given (point_id, observed_at, received_at, value, quality, text)
ORDER BY point_id
ON CONFLICT (point_id) DO UPDATE SET
    observed_at = excluded.observed_at,
    received_at = excluded.received_at,
    value = excluded.value,
    quality = excluded.quality,
    text = excluded.text
WHERE excluded.observed_at > kept.observed_at
OR (
    excluded.observed_at = kept.observed_at
    AND outranks(
        excluded.quality, excluded.value, excluded.text, kept.quality, kept.value, kept.text
    )
)
"""


async def keep_latest(connection: Connection, rows: Rows, received_at: NDArray[np.int64]) -> None:
    """Keep the newest of these rows per point; `received_at` is per batch, in microseconds.

    Points are locked in order, so two transactions cannot wait for each other here.
    """
    series = rows.columns.series
    is_last = np.ones(len(rows), bool)
    is_last[:-1] = series[1:] != series[:-1]
    newest = rows.take(np.flatnonzero(is_last))
    columns = newest.columns
    await connection.execute(
        _UPSERT,
        columns.series.tolist(),
        [to_datetime(at) for at in columns.observed_at.tolist()],
        [to_datetime(at) for at in received_at[newest.batch].tolist()],
        [None if math.isnan(value) else value for value in columns.value.tolist()],
        columns.quality.view(np.int16).tolist(),
        [columns.texts.get(row) for row in range(len(newest))],
    )
