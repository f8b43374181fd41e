"""Readings in buckets of time. Buckets lie on the UTC grid.

They are computed from raw readings, or added up from the rollups of the gateway where these tell of
more readings: it made them of all it read, and keeps them longer than raw when its disk is full.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from central.egress.schemas import finite, utc
from central.storage.catalogue import PointRow
from central.storage.database import Connection

_ORIGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NUMBERS: Final = ("avg", "min", "max", "sum", "first", "last")

# Class 2 and 3 of bits 12-13 are bad (shared.quality); NaN and the infinities are no numbers.
_BUCKETS: Final = """
WITH of_raw AS (
    SELECT
        point_id,
        date_bin($4, observed_at, $5) AS bucket,
        count(*) AS count,
        count(*) FILTER (WHERE quality >> 12 & 3 = 0) AS good_count,
        avg(usable) AS avg, min(usable) AS min, max(usable) AS max, sum(usable) AS sum,
        (array_agg(usable ORDER BY observed_at) FILTER (WHERE usable IS NOT NULL))[1] AS first,
        (array_agg(usable ORDER BY observed_at DESC) FILTER (WHERE usable IS NOT NULL))[1] AS last,
        'raw' AS source
    FROM (
        SELECT point_id, observed_at, quality,
            CASE WHEN quality >> 12 & 3 < 2 AND abs(value) < 'Infinity' THEN value END AS usable
        FROM readings
        WHERE point_id = ANY($1::int4[]) AND observed_at >= $2 AND observed_at < $3
    ) AS r
    GROUP BY point_id, bucket
),
of_edge AS (
    SELECT
        point_id,
        date_bin($4, start, $5) AS bucket,
        sum(count)::int8 AS count,
        sum(good_count)::int8 AS good_count,
        sum(sum) / nullif(sum(good_count), 0) AS avg, min(min) AS min, max(max) AS max,
        CASE WHEN sum(good_count) > 0 THEN sum(sum) END AS sum,
        (array_agg(first ORDER BY first_at) FILTER (WHERE good_count > 0))[1] AS first,
        (array_agg(last ORDER BY last_at DESC) FILTER (WHERE good_count > 0))[1] AS last,
        'edge' AS source
    FROM rollups
    WHERE point_id = ANY($1::int4[]) AND source = 'edge'
        AND start >= $2 AND start + width_us * interval '1 microsecond' <= $3
        AND $6::int8 % width_us = 0
    GROUP BY point_id, bucket
    HAVING sum(count) > 0
)
SELECT DISTINCT ON (point_id, bucket) *
FROM (SELECT * FROM of_raw UNION ALL SELECT * FROM of_edge) AS both_of
ORDER BY point_id, bucket, count DESC, source DESC
"""


async def read(
    connection: Connection,
    points: Sequence[PointRow],
    between: tuple[datetime, datetime],
    width: timedelta,
) -> list[dict[str, Any]]:
    """Read the buckets of each point; a bucket without a reading is left out."""
    ids = [point.point_id for point in points]
    rows = await connection.fetch(_BUCKETS, ids, *between, width, _ORIGIN, width // _MICROSECOND)
    found: dict[int, list[dict[str, Any]]] = {point_id: [] for point_id in ids}
    for row in rows:
        found[row["point_id"]].append(_write(row, width))
    return [
        {"key": point.key, "unit": point.unit, "buckets": found[point.point_id]} for point in points
    ]


def _write(row: Any, width: timedelta) -> dict[str, Any]:
    start = utc(row["bucket"])
    return {
        "from": start,
        "to": start + width,
        "count": row["count"],
        "good_count": row["good_count"],
        "source": row["source"],
        **{name: finite(row[name]) for name in _NUMBERS},
    }
