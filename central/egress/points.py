"""The points of a project, by key, page by page."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from central.access import ProjectCaller, ProjectSlug
from central.egress.catalogue import MAX_LISTED, After, Prefix, page
from central.problems import documented
from central.storage.database import Pool


class PointOut(BaseModel):
    """A point: what it is called and what its readings carry."""

    model_config = ConfigDict(populate_by_name=True)

    point_id: int
    key: str
    unit: str
    type: str
    klass: str = Field(alias="class")


class PointsOut(BaseModel):
    """One page of points."""

    points: list[PointOut]
    next_after: str | None = Field(description="Ask again with after=… for the next page.")


def routes(pool: Pool) -> APIRouter:
    """Make the route of points."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["points"])

    @router.get("/points", responses=documented(401, 403, 422, 503))
    async def points(
        project: ProjectSlug,
        caller: ProjectCaller,
        prefix: Prefix = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 500,
    ) -> PointsOut:
        """List points in the order of their keys."""
        selection = await page(pool, caller, prefix, after, limit)
        listed = [
            PointOut.model_validate(
                {
                    "point_id": point.point_id,
                    "key": point.key,
                    "unit": point.unit,
                    "type": point.type,
                    "class": point.klass,
                }
            )
            for point in selection.points
        ]
        return PointsOut(points=listed, next_after=selection.next_key)

    return router
