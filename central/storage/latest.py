"""The newest reading of every point, in a table of its own: never found by scanning."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.collapse import Rows
from central.storage.database import Connection
from shared.clock import MICROSECONDS

_NO_TEXTS: Final[tuple[str, ...]] = ()
"""A shorter array is filled up with NULL by `unnest`."""
_UPSERT: Final = """
INSERT INTO latest AS kept (point_id, observed_at, received_at, value, quality, text)
SELECT
    point_id,
    to_timestamp(observed_s) + observed_us * interval '1 microsecond',
    to_timestamp(received_s) + received_us * interval '1 microsecond',
    value, quality, text
FROM unnest(
    $1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::int4[], $6::float8[], $7::int2[], $8::text[]
) AS given (
    point_id, observed_s, observed_us, received_s, received_us, value, quality, text
)
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
    values: list[float | None] = columns.value.tolist()
    for row in np.flatnonzero(np.isnan(columns.value)).tolist():
        values[row] = None
    await connection.execute(
        _UPSERT,
        columns.series.tolist(),
        *_seconds(columns.observed_at),
        *_seconds(received_at[newest.batch]),
        values,
        columns.quality.view(np.int16).tolist(),
        [columns.texts.get(row) for row in range(len(newest))] if columns.texts else _NO_TEXTS,
    )


def _seconds(times: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Give whole seconds and microseconds: numbers reach the database sooner than datetimes do."""
    seconds, micros = np.divmod(times, MICROSECONDS)
    return seconds.tolist(), micros.tolist()
