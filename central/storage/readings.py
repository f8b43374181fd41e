"""The readings table: filled by binary COPY, or merged where readings are there already."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.collapse import Rows
from central.storage.copy_format import encode_rows, timestamps
from central.storage.database import (
    Connection,
    DataRefused,
    DuplicateKey,
    MemoryShort,
    copy_rows,
    savepoint,
)
from central.storage.hypertable import is_scattered, refuse_scattered, time_ranges
from shared.clock import to_datetime

FEW_CHUNKS: Final = 30
"""So few chunks never need more locks than a server has, whatever else it does."""
_COLUMNS: Final = ("observed_at", "value", "point_id", "quality")
_INCOMING: Final = """
CREATE TEMPORARY TABLE incoming (
    observed_at timestamptz NOT NULL,
    value float8,
    point_id int4 NOT NULL,
    quality int2 NOT NULL,
    batch int4 NOT NULL,
    text text
) ON COMMIT DROP
"""
_ADD_TEXTS: Final = """
UPDATE incoming SET text = given.text
FROM unnest($1::int4[], $2::timestamptz[], $3::text[]) AS given (point_id, observed_at, text)
WHERE incoming.point_id = given.point_id AND incoming.observed_at = given.observed_at
"""
_INSERT_NEW: Final = """
WITH inserted AS (
    INSERT INTO readings (observed_at, value, point_id, quality)
    SELECT observed_at, value, point_id, quality FROM incoming
    ORDER BY point_id, observed_at
    ON CONFLICT (point_id, observed_at) DO NOTHING
    RETURNING point_id, observed_at
), texts AS (
    INSERT INTO readings_texts (point_id, observed_at, text)
    SELECT point_id, observed_at, incoming.text
    FROM incoming JOIN inserted USING (point_id, observed_at)
    WHERE incoming.text IS NOT NULL
)
SELECT batch, count(*) FROM incoming JOIN inserted USING (point_id, observed_at) GROUP BY batch
"""
# A second statement: it also sees rivals that were committed while the first one waited for them.
_REPLACE_OUTRANKED: Final = """
WITH won AS (
    UPDATE readings SET value = incoming.value, quality = incoming.quality
    FROM incoming LEFT JOIN readings_texts AS kept USING (point_id, observed_at)
    WHERE readings.point_id = incoming.point_id AND readings.observed_at = incoming.observed_at
    AND readings.observed_at BETWEEN $1 AND $2 AND incoming.observed_at BETWEEN $1 AND $2
    AND outranks(
        incoming.quality, incoming.value, incoming.text,
        readings.quality, readings.value, kept.text
    )
    RETURNING readings.point_id, readings.observed_at, incoming.text
), silenced AS (
    DELETE FROM readings_texts USING won
    WHERE readings_texts.point_id = won.point_id
    AND readings_texts.observed_at = won.observed_at AND won.text IS NULL
)
INSERT INTO readings_texts (point_id, observed_at, text)
SELECT point_id, observed_at, text FROM won WHERE text IS NOT NULL
ON CONFLICT (point_id, observed_at) DO UPDATE SET text = excluded.text
"""


async def write_readings(connection: Connection, rows: Rows, batches: int) -> NDArray[np.int64]:
    """Write rows in a project's transaction and count, per batch, those that were new.

    A row whose (point, observed_at) is there already is not new; the one of the two that outranks
    the other stays. Raises `DataRefused` for rows that lie in too many chunks.
    """
    await refuse_scattered(connection, rows.columns.observed_at)
    try:
        return await _write(connection, rows, batches)
    except MemoryShort as error:
        # The locks of many chunks: less of it may pass. What is refused is not tried for ever.
        if is_scattered(rows.columns.observed_at, FEW_CHUNKS):
            raise DataRefused(str(error)) from error
        raise


async def _write(connection: Connection, rows: Rows, batches: int) -> NDArray[np.int64]:
    try:
        async with savepoint(connection):
            await _copy(connection, "readings", rows, with_batch=False)
            await _insert_texts(connection, rows)
    except DuplicateKey:
        return await _merge(connection, rows, batches)
    return np.bincount(rows.batch, minlength=batches)


async def _copy(connection: Connection, table: str, rows: Rows, *, with_batch: bool) -> None:
    """COPY twice: what has a value, and what has none, which is NULL there."""
    names = (*_COLUMNS, "batch") if with_batch else _COLUMNS
    has_value = ~np.isnan(rows.columns.value)
    for picked, is_null in ((has_value, False), (~has_value, True)):
        part = rows if picked.all() else rows.take(np.flatnonzero(picked))
        if not picked.any():
            continue
        data = encode_rows(
            len(part),
            timestamps(part.columns.observed_at),
            None if is_null else part.columns.value,
            part.columns.series,
            part.columns.quality.view(np.int16),
            *([part.batch] if with_batch else []),
        )
        await copy_rows(connection, table, names, data)


async def _insert_texts(connection: Connection, rows: Rows) -> None:
    if rows.columns.texts:
        await connection.execute(
            "INSERT INTO readings_texts (point_id, observed_at, text)"
            " SELECT * FROM unnest($1::int4[], $2::timestamptz[], $3::text[])",
            *_texts(rows),
        )


async def _merge(connection: Connection, rows: Rows, batches: int) -> NDArray[np.int64]:
    await connection.execute(_INCOMING)
    await _copy(connection, "incoming", rows, with_batch=True)
    if rows.columns.texts:
        await connection.execute(_ADD_TEXTS, *_texts(rows))
    counts = np.zeros(batches, np.int64)
    for batch, count in await connection.fetch(_INSERT_NEW):
        counts[batch] = count
    for first, last in await time_ranges(connection, rows.columns.observed_at):
        await connection.execute(_REPLACE_OUTRANKED, to_datetime(first), to_datetime(last))
    await connection.execute("DROP TABLE incoming")
    return counts


def _texts(rows: Rows) -> tuple[Sequence[object], ...]:
    at = sorted(rows.columns.texts)
    return (
        rows.columns.series[at].tolist(),
        [to_datetime(us) for us in rows.columns.observed_at[at].tolist()],
        [rows.columns.texts[row] for row in at],
    )
