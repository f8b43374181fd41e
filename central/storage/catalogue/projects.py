"""Projects: the tenants, each with a schema and a role of its own."""

import re
from dataclasses import dataclass
from typing import Final

from central.storage.database import Pool, platform_transaction
from central.storage.migrate import migrate_project
from shared.errors import SpineError
from shared.model import SLUG_PATTERN

_SLUG: Final = re.compile(SLUG_PATTERN)


class CatalogueError(SpineError):
    """What was asked of the catalogue cannot be; the text says why."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project: its id for ever, and the slug that names schema, role, topics and URLs."""

    project_id: int
    slug: str
    name: str


async def create_project(owner: Pool, slug: str, name: str = "") -> Project:
    """Make a project with its schema and role; one that exists is completed and given.

    `owner` is a pool of the owner role: the service may not make schemas. Its topics are made by
    `central.messaging.create_topics`.
    """
    if not _SLUG.match(slug):
        raise CatalogueError(
            f"{slug!r} cannot be a project's slug: lower-case letters, digits and _, at most 40, "
            "a letter first"
        )
    await migrate_project(owner, slug)
    async with platform_transaction(owner) as connection:
        await connection.execute(
            "INSERT INTO platform.projects (slug, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            slug,
            name or slug,
        )
    project = await find_project(owner, slug)
    if project is None:
        raise CatalogueError(f"the project {slug} was made and is gone again")
    return project


async def find_project(pool: Pool, slug: str) -> Project | None:
    """Find a project by its slug."""
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(
            "SELECT project_id, slug, name FROM platform.projects WHERE slug = $1", slug
        )
    return None if row is None else Project(*row)


async def list_projects(pool: Pool) -> list[Project]:
    """List all projects, oldest first."""
    async with platform_transaction(pool) as connection:
        rows = await connection.fetch(
            "SELECT project_id, slug, name FROM platform.projects ORDER BY project_id"
        )
    return [Project(*row) for row in rows]
