"""What a caller may see: its project and the sites of it."""

from fastapi import APIRouter
from pydantic import BaseModel

from central.access import AnyCaller, ProjectCaller, ProjectSlug
from central.problems import ApiProblem, documented
from central.storage.catalogue import find_project, list_sites
from central.storage.database import Pool


class ProjectOut(BaseModel):
    """A project."""

    slug: str
    name: str


class ProjectsOut(BaseModel):
    """The projects the caller may see."""

    projects: list[ProjectOut]


class SiteOut(BaseModel):
    """A site of a project."""

    name: str
    time_zone: str


class SitesOut(BaseModel):
    """The sites of a project."""

    sites: list[SiteOut]


def routes(pool: Pool) -> APIRouter:
    """Make the routes of projects and sites."""
    router = APIRouter(prefix="/api/v1/projects", tags=["projects"])

    @router.get("", responses=documented(401, 503))
    async def projects(caller: AnyCaller) -> ProjectsOut:
        """List the projects of this key or session."""
        project = await find_project(pool, caller.project)
        if project is None:
            raise ApiProblem(401, "not_signed_in", "The project of this access is gone.")
        return ProjectsOut(projects=[ProjectOut(slug=project.slug, name=project.name)])

    @router.get("/{project}/sites", responses=documented(401, 403, 422, 503))
    async def sites(project: ProjectSlug, caller: ProjectCaller) -> SitesOut:
        """List the sites of a project."""
        found = await list_sites(pool, caller.project_id)
        return SitesOut(sites=[SiteOut(name=site.name, time_zone=site.time_zone) for site in found])

    return router
