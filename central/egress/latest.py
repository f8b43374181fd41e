"""The newest reading of every point: a table of its own, never a scan of history."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from central.access import ProjectCaller, ProjectSlug
from central.egress.catalogue import MAX_LISTED, After, Keys, Prefix, Selection, page, select
from central.egress.metrics import EgressMetrics
from central.egress.query import reading
from central.egress.schemas import PointReadingOut, finite, quality_out, utc
from central.problems import documented
from central.storage.catalogue import PointRow
from central.storage.database import Connection, Pool

_SOME: Final = """
SELECT point_id, observed_at, received_at, value, quality, text
FROM latest WHERE point_id = ANY($1::int4[])
"""


class LatestOut(BaseModel):
    """The newest reading of each point; a point that never had one is left out."""

    readings: list[PointReadingOut]
    next_after: str | None = Field(description="Ask again with after=… for the next page.")


def routes(pool: Pool, limit_s: float, metrics: EgressMetrics) -> APIRouter:
    """Make the route of latest values."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["readings"])

    @router.get("/latest", responses=documented(401, 403, 404, 422, 503))
    async def latest(
        project: ProjectSlug,
        caller: ProjectCaller,
        keys: Keys = [],  # noqa: B006  # FastAPI copies it
        prefix: Prefix = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 500,
    ) -> LatestOut:
        """Give the newest reading of the points with these keys, or of all, page by page."""
        selection = (
            await select(pool, caller, keys)
            if keys
            else await page(pool, caller, prefix, after, limit)
        )
        async with reading(pool, project, limit_s) as connection:
            rows = await latest_rows(connection, selection.ids)
        metrics.readings.labels("latest").inc(len(rows))
        return LatestOut(readings=_write(selection, rows), next_after=selection.next_key)

    return router


async def latest_rows(connection: Connection, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Read the latest rows of points, by point id."""
    return {row["point_id"]: row for row in await connection.fetch(_SOME, list(ids))}


def write_latest(point: PointRow, row: Mapping[str, Any]) -> PointReadingOut:
    """Write one latest row out."""
    return PointReadingOut(
        key=point.key,
        unit=point.unit,
        observed_at=utc(row["observed_at"]),
        received_at=utc(row["received_at"]),
        value=finite(row["value"]),
        text=row["text"],
        quality=quality_out(row["quality"]),
    )


def _write(selection: Selection, rows: Mapping[int, Mapping[str, Any]]) -> list[PointReadingOut]:
    return [
        write_latest(point, rows[point.point_id])
        for point in selection.points
        if point.point_id in rows
    ]
