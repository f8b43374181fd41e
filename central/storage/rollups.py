"""Rollups that gateways made: parts of one window add up, in whatever order they come."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from central.storage.collapse import Rows
from central.storage.database import Connection
from central.storage.latest import keep_latest
from shared.clock import to_datetime
from shared.columns import Columns
from shared.rollups import Rollups, combined

EDGE: Final = "edge"
_NUMBERS: Final = ("min", "max", "mean", "first", "last")

_UPSERT: Final = """
INSERT INTO rollups AS kept (
    point_id, width_us, start, source, count, good_count, sum, known_us,
    min, max, mean, first, last, first_at, last_at
)
SELECT point_id, width_us, start, $1, count, good_count, sum, known_us,
    min, max, mean, first, last, first_at, last_at
FROM unnest(
    $2::int4[], $3::int8[], $4::timestamptz[], $5::int8[], $6::int8[], $7::float8[], $8::int8[],
    $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::float8[],
    $14::timestamptz[], $15::timestamptz[]
) AS given (
    point_id, width_us, start, count, good_count, sum, known_us,
    min, max, mean, first, last, first_at, last_at
)
ORDER BY point_id, width_us, start
ON CONFLICT (point_id, width_us, start, source) DO UPDATE SET
    count = kept.count + excluded.count,
    good_count = kept.good_count + excluded.good_count,
    sum = kept.sum + excluded.sum,
    known_us = kept.known_us + excluded.known_us,
    min = least(kept.min, excluded.min),
    max = greatest(kept.max, excluded.max),
    mean = CASE
        WHEN kept.known_us = 0 THEN excluded.mean
        WHEN excluded.known_us = 0 THEN kept.mean
        ELSE kept.mean * (kept.known_us::float8 / (kept.known_us + excluded.known_us))
            + excluded.mean * (excluded.known_us::float8 / (kept.known_us + excluded.known_us))
    END,
    first = CASE WHEN excluded.first_at < kept.first_at OR kept.first_at IS NULL
        THEN excluded.first ELSE kept.first END,
    last = CASE WHEN excluded.last_at >= kept.last_at OR kept.last_at IS NULL
        THEN excluded.last ELSE kept.last END,
    first_at = least(kept.first_at, excluded.first_at),
    last_at = greatest(kept.last_at, excluded.last_at)
"""


async def write_rollups(
    connection: Connection, parts: Sequence[Rollups], received_at: Sequence[int]
) -> None:
    """Add the rollups of batches to those that are kept; `received_at` is per batch, in µs.

    The last good reading of a window is also the latest of its point, unless a newer one is known.
    """
    rows = combined(np.concatenate(parts))
    if not len(rows):
        return
    await connection.execute(
        _UPSERT,
        EDGE,
        rows["series"].tolist(),
        rows["width"].tolist(),
        [to_datetime(at) for at in rows["start"].tolist()],
        *(rows[name].tolist() for name in ("count", "good_count", "sum", "known")),
        *(_or_none(rows[name]) for name in _NUMBERS),
        *(_times(rows, name) for name in ("first_at", "last_at")),
    )
    latest = _last_readings(parts)
    if len(latest):
        await keep_latest(connection, latest, np.array(received_at, np.int64))


def _or_none(numbers: NDArray[np.float64]) -> list[float | None]:
    found: list[float | None] = numbers.tolist()
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        found[row] = None
    return found


def _times(rows: Rollups, name: str) -> list[datetime | None]:
    pairs: Sequence[tuple[int, Any]] = rows[["good_count", name]].tolist()
    return [to_datetime(at) if good else None for good, at in pairs]


def _last_readings(parts: Sequence[Rollups]) -> Rows:
    """Make the last good readings of the windows rows again, sorted by point and time."""
    rollups = np.concatenate(parts)
    batch = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    is_good = rollups["good_count"] > 0
    rollups, batch = rollups[is_good], batch[is_good]
    order = np.lexsort((rollups["last_at"], rollups["series"]))
    rows = rollups[order]
    quality = np.zeros(len(rows), np.uint16)
    return Rows(Columns.of(rows["series"], rows["last_at"], rows["last"], quality), batch[order])
