"""The acts of an administrator: projects, one-time codes, keys, logins, revocation.

They work on the database beside a central that runs, or start its own for a moment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from central.connections import open_log
from central.ingress.authority import Authority
from central.local import database
from central.messaging import create_topics
from central.settings import Settings
from central.storage.catalogue import (
    CatalogueError,
    Gateway,
    Project,
    create_gateway,
    create_key,
    create_project,
    create_site,
    find_gateway,
    find_project,
    issue_code,
    issue_login,
    list_projects,
    list_sites,
    revoke_gateway,
)
from central.storage.database import Pool, open_pool


@dataclass(frozen=True, slots=True)
class Said:
    """What an act answers: one line for programs, and a note for people."""

    answer: str
    note: str = ""


async def setup(settings: Settings, slug: str, site: str) -> Said:
    """Make a project, its topics and its first site, and the certificate authority."""
    Authority.open(settings.data)
    async with database(settings) as found:
        async with open_pool(found.as_owner(), size=1) as owner:
            project = await create_project(owner, slug)
        async with open_pool(found.dsn, size=2) as pool:
            async with open_log(settings, pool) as log:
                await create_topics(log, slug)
            await create_site(pool, project.project_id, site)
    return Said(f"project {slug}, site {site}")


async def enrol(settings: Settings, slug: str, site: str, gateway: str) -> Said:
    """Make a one-time code for a gateway, and the gateway where it is new."""
    authority = Authority.open(settings.data)
    async with _pool(settings) as pool:
        project = await _project(pool, slug)
        found = await find_gateway(pool, project.project_id, gateway)
        known = found or await _new_gateway(pool, project, site, gateway)
        secret = await issue_code(pool, known)
    note = f"One-time code of gateway {gateway} in project {slug}, valid for 15 minutes:"
    return Said(f"spine1-{secret}-{authority.pin}", note)


async def key(settings: Settings, slug: str, name: str) -> Said:
    """Make an API key of a project."""
    async with _pool(settings) as pool:
        project = await _project(pool, slug)
        clear = await create_key(pool, project.project_id, name)
    return Said(clear, f"API key {name!r} of project {slug}; it is not shown again:")


async def login(settings: Settings, slug: str | None) -> Said:
    """Make a one-time login token of a project."""
    async with _pool(settings) as pool:
        project = await _project(pool, slug)
        token = await issue_login(pool, project.project_id)
    link = f"http://{settings.host}:{settings.port}/login?token={token}"
    return Said(token, f"One-time login to project {project.slug}, valid for 15 minutes:\n{link}")


async def revoke(settings: Settings, slug: str, gateway: str) -> Said:
    """Revoke a gateway."""
    async with _pool(settings) as pool:
        project = await _project(pool, slug)
        if not await revoke_gateway(pool, project.project_id, gateway):
            raise CatalogueError(f"project {slug} has no gateway {gateway}")
    return Said(f"gateway {gateway} of project {slug} is revoked")


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    async with database(settings) as found, open_pool(found.dsn, size=2) as pool:
        yield pool


async def _project(pool: Pool, slug: str | None) -> Project:
    if slug is not None:
        project = await find_project(pool, slug)
        if project is None:
            raise CatalogueError(
                f"there is no project {slug!r}. Make it: python -m central setup --project {slug}"
            )
        return project
    projects = await list_projects(pool)
    if len(projects) != 1:
        names = ", ".join(each.slug for each in projects) or "none yet"
        raise CatalogueError(f"say which project by --project; there are: {names}")
    return projects[0]


async def _new_gateway(pool: Pool, project: Project, site: str, name: str) -> Gateway:
    for each in await list_sites(pool, project.project_id):
        if each.name == site:
            return await create_gateway(pool, project.project_id, each.site_id, name)
    raise CatalogueError(
        f"project {project.slug} has no site {site!r}. "
        f"Make it: python -m central setup --project {project.slug} --site {site}"
    )
