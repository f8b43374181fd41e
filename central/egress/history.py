"""What points read in a span of time: raw with a cursor, or in buckets."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from central.access import ProjectCaller, ProjectSlug
from central.egress import buckets, raw
from central.egress.catalogue import MAX_KEYS, Selection, select
from central.egress.durations import PATTERN, parse_duration
from central.egress.gaps import gaps_between
from central.egress.metrics import EgressMetrics
from central.egress.query import reading
from central.egress.schemas import GapOut, ReadingOut
from central.egress.span import span
from central.problems import ApiProblem, documented
from central.storage.database import Connection, Pool
from shared.model import KEY_LENGTH, KEY_PATTERN

MAX_BUCKETS: Final = 50_000
MAX_LIMIT: Final = 10_000
SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=31)


class BucketOut(BaseModel):
    """One bucket [from, to). Numbers are of readings that have a value and are not bad."""

    model_config = ConfigDict(populate_by_name=True)

    from_: datetime = Field(alias="from")
    to: datetime
    count: int = Field(description="All readings, bad ones too.")
    good_count: int
    source: Literal["raw", "edge"] = Field(
        description="raw: computed here of readings; edge: the gateway's own rollups, which tell "
        "of more readings, and whose numbers are of good ones alone."
    )
    avg: float | None
    min: float | None
    max: float | None
    sum: float | None
    first: float | None
    last: float | None


class PointHistoryOut(BaseModel):
    """The history of one point: `readings` where raw was asked for, else `buckets`."""

    key: str
    unit: str
    readings: list[ReadingOut] = []
    buckets: list[BucketOut] = []


class HistoryOut(BaseModel):
    """History of several points over [from, to)."""

    model_config = ConfigDict(populate_by_name=True)

    from_: datetime = Field(alias="from")
    to: datetime
    bucket: str | None
    points: list[PointHistoryOut]
    gaps: list[GapOut] | None = Field(description="Declared holes that touch the span, if asked.")
    next_cursor: str | None = Field(description="Ask again with cursor=… for more raw readings.")


class HistoryQuery(BaseModel):
    """What history is asked for."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    key: list[Annotated[str, Field(pattern=KEY_PATTERN, max_length=KEY_LENGTH)]] = Field(
        min_length=1, max_length=MAX_KEYS, description="Keys of points; repeat for several."
    )
    from_: AwareDatetime | None = Field(
        default=None, alias="from", description="First moment, included; one hour before `to`."
    )
    to: AwareDatetime | None = Field(default=None, description="Last moment, excluded; now.")
    bucket: str | None = Field(
        default=None,
        pattern=PATTERN,
        max_length=40,
        description="Width of buckets as ISO 8601 duration, PT1S … P31D; without: raw readings.",
    )
    gaps: bool = Field(default=False, description="Also list the declared holes of these points.")
    limit: int = Field(default=1_000, ge=1, le=MAX_LIMIT, description="Raw readings a page.")
    cursor: str | None = Field(default=None, max_length=200, description="From `next_cursor`.")


def routes(pool: Pool, limit_s: float, metrics: EgressMetrics) -> APIRouter:
    """Make the route of history."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["readings"])

    @router.get("/history", responses=documented(400, 401, 403, 404, 422, 503))
    async def history(
        project: ProjectSlug, caller: ProjectCaller, query: Annotated[HistoryQuery, Query()]
    ) -> HistoryOut:
        """Give readings, or buckets of them, of up to 100 points in [from, to)."""
        start, end = span(query.from_, query.to)
        width = bucket_width(query.bucket, end - start, len(query.key))
        at = raw.read_cursor(query.cursor)
        selection = await select(pool, caller, query.key)
        async with reading(pool, project, limit_s) as connection:
            points, cursor = await _read(connection, selection, (start, end), width, query, at)
            gaps = await gaps_between(connection, start, end, selection.ids) if query.gaps else None
        given = sum(len(each.get("readings", each.get("buckets", ()))) for each in points)
        metrics.readings.labels("history").inc(given)
        return HistoryOut.model_validate(
            {
                "from": start,
                "to": end,
                "bucket": query.bucket,
                "points": points,
                "gaps": None if gaps is None else await gaps.write(pool, caller),
                "next_cursor": cursor,
            }
        )

    return router


def bucket_width(text: str | None, length: timedelta, points: int) -> timedelta | None:
    """Read and check a bucket's width; None for raw. Raises `ApiProblem` 422."""
    if text is None:
        return None
    try:
        width = parse_duration(text)
    except ValueError as error:
        raise ApiProblem(422, "bad_bucket", str(error)) from error
    if not SHORTEST <= width <= LONGEST:
        raise ApiProblem(422, "bad_bucket", "a bucket is PT1S to P31D wide")
    count = (length // width + 2) * points
    if count > MAX_BUCKETS:
        raise ApiProblem(
            422,
            "too_many_buckets",
            f"That would be {count} buckets; at most {MAX_BUCKETS} are given at once. "
            "Ask for wider buckets, a shorter span or fewer points.",
        )
    return width


async def _read(
    connection: Connection,
    selection: Selection,
    between: tuple[datetime, datetime],
    width: timedelta | None,
    query: HistoryQuery,
    at: raw.Cursor | None,
) -> tuple[list[dict[str, Any]], str | None]:
    if width is not None:
        return await buckets.read(connection, selection.points, between, width), None
    return await raw.read(connection, selection.points, between, query.limit, at)
