"""Raw readings, page by page: points in the order asked for, each by time."""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from central.egress.schemas import finite, quality_out, utc
from central.problems import ApiProblem
from central.storage.catalogue import PointRow
from central.storage.database import Connection
from shared.clock import from_datetime, to_datetime

_FORM: Final = struct.Struct(">Iq")

_READINGS: Final = """
SELECT r.observed_at, r.value, r.quality, t.text
FROM readings AS r
LEFT JOIN readings_texts AS t ON t.point_id = r.point_id AND t.observed_at = r.observed_at
WHERE r.point_id = $1 AND r.observed_at >= $2 AND r.observed_at < $3
ORDER BY r.observed_at LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page begins: in which of the points asked for, from which time on."""

    point_id: int
    observed_at: datetime


def write_cursor(cursor: Cursor) -> str:
    """Write a cursor as text."""
    packed = _FORM.pack(cursor.point_id, from_datetime(cursor.observed_at))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(text: str | None) -> Cursor | None:
    """Read a cursor. Raises `ApiProblem` 400 for one that was not given out."""
    if text is None:
        return None
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        point_id, observed_at = _FORM.unpack(packed)
        return Cursor(point_id, to_datetime(observed_at))
    except (binascii.Error, struct.error, ValueError, OverflowError) as error:
        detail = "The cursor is not one of ours. Use next_cursor as it was given."
        raise ApiProblem(400, "bad_cursor", detail) from error


async def read(
    connection: Connection,
    points: Sequence[PointRow],
    between: tuple[datetime, datetime],
    limit: int,
    cursor: Cursor | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Read one page; every point asked for is listed, those of other pages without readings.

    Raises `ApiProblem` 400 for a cursor of other points.
    """
    start, end = between
    if cursor is not None and cursor.point_id not in {point.point_id for point in points}:
        raise ApiProblem(400, "bad_cursor", "The cursor was given for other points.")
    listed: list[dict[str, Any]] = []
    left, is_before = limit, cursor is not None
    next_cursor: Cursor | None = None
    for point in points:
        out: dict[str, Any] = {"key": point.key, "unit": point.unit, "readings": []}
        listed.append(out)
        since = start
        if cursor is not None and point.point_id == cursor.point_id:
            is_before, since = False, max(start, cursor.observed_at)
        if is_before or next_cursor is not None:
            continue
        # One row more than wanted tells whether, and where, there is a next page.
        rows = await connection.fetch(_READINGS, point.point_id, since, end, left + 1)
        if len(rows) > left:
            next_cursor = Cursor(point.point_id, rows[left]["observed_at"])
        out["readings"] = [_write(row) for row in rows[:left]]
        left -= len(out["readings"])
    return listed, None if next_cursor is None else write_cursor(next_cursor)


def _write(row: Any) -> dict[str, Any]:
    return {
        "observed_at": utc(row["observed_at"]),
        "value": finite(row["value"]),
        "text": row["text"],
        "quality": quality_out(row["quality"]),
    }
