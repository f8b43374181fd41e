"""Declared holes of a project: what was missed or lost, when, and of which points."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from central.access import Caller, ProjectCaller, ProjectSlug
from central.egress.query import reading
from central.egress.schemas import GapOut, utc
from central.egress.span import span
from central.problems import documented
from central.storage.catalogue import list_gateways, points_by_id
from central.storage.database import Connection, Pool

MAX_GAPS: Final = 1_000
MAX_NAMED: Final = 1_000

_GAPS: Final = """
SELECT
    gateway_id, gap_id, cause, reason, from_at, to_at, count, missed, rollups,
    (SELECT sum(upper(r) - lower(r))::int4 FROM unnest(points) AS r) AS point_count,
    ARRAY(
        SELECT id FROM unnest(points) AS r, generate_series(lower(r), upper(r) - 1) AS id
        LIMIT $4
    ) AS ids
FROM gaps
WHERE to_at > $1 AND from_at < $2
    AND ($3::int4[] IS NULL OR EXISTS (SELECT FROM unnest($3::int4[]) AS id WHERE points @> id))
ORDER BY to_at DESC, gap_id LIMIT $5
"""


class GapsOut(BaseModel):
    """Declared holes, the latest first."""

    gaps: list[GapOut]
    is_complete: bool = Field(description="False where there are more than were asked for.")


class GapsQuery(BaseModel):
    """Which holes are asked for."""

    from_: AwareDatetime | None = Field(default=None, alias="from")
    to: AwareDatetime | None = None
    limit: int = Field(default=100, ge=1, le=MAX_GAPS)


@dataclass(frozen=True, slots=True)
class Gaps:
    """Rows of gaps; their keys and gateways are looked up when they are written out."""

    rows: Sequence[Any]

    async def write(self, pool: Pool, caller: Caller) -> list[GapOut]:
        """Name points and gateways."""
        wanted = sorted({point_id for row in self.rows for point_id in row["ids"]})
        keys = await points_by_id(pool, caller.project_id, wanted) if wanted else {}
        names = {
            each.gateway_id: each.name for each in await list_gateways(pool, caller.project_id)
        }
        return [
            GapOut.model_validate(
                {
                    "id": bytes(row["gap_id"]).hex(),
                    "gateway": names.get(row["gateway_id"], str(row["gateway_id"])),
                    "cause": row["cause"],
                    "reason": row["reason"],
                    "from": utc(row["from_at"]),
                    "to": utc(row["to_at"]),
                    "points": sorted(keys[each].key for each in row["ids"] if each in keys),
                    "point_count": row["point_count"] or 0,
                    "count": row["count"],
                    "missed": row["missed"],
                    "rollups": row["rollups"],
                }
            )
            for row in self.rows
        ]


async def gaps_between(
    connection: Connection,
    start: datetime,
    end: datetime,
    ids: Sequence[int] | None,
    limit: int = MAX_GAPS,
) -> Gaps:
    """Read the gaps that touch a span of time, of these points or of all, the latest first."""
    named = None if ids is None else list(ids)
    return Gaps(await connection.fetch(_GAPS, start, end, named, MAX_NAMED, limit))


def routes(pool: Pool, limit_s: float) -> APIRouter:
    """Make the route of gaps."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["gateways"])

    @router.get("/gaps", responses=documented(401, 403, 422, 503))
    async def gaps(
        project: ProjectSlug, caller: ProjectCaller, query: Annotated[GapsQuery, Query()]
    ) -> GapsOut:
        """List the declared holes that touch [from, to); the last hour if nothing is said."""
        start, end = span(query.from_, query.to)
        async with reading(pool, project, limit_s) as connection:
            found = await gaps_between(connection, start, end, None, query.limit + 1)
        shown = Gaps(found.rows[: query.limit])
        return GapsOut(
            gaps=await shown.write(pool, caller), is_complete=len(found.rows) <= query.limit
        )

    return router
