"""Sites: the places of a project that gateways stand in."""

from dataclasses import dataclass

from central.storage.database import Pool, catalogue_transaction


@dataclass(frozen=True, slots=True)
class Site:
    """A site; `name` is unique in its project."""

    site_id: int
    project_id: int
    name: str
    time_zone: str


async def create_site(pool: Pool, project_id: int, name: str, time_zone: str = "UTC") -> Site:
    """Make a site; one of this name is given as it is."""
    async with catalogue_transaction(pool, project_id) as connection:
        await connection.execute(
            "INSERT INTO platform.sites (project_id, name, time_zone) VALUES ($1, $2, $3)"
            " ON CONFLICT DO NOTHING",
            project_id,
            name,
            time_zone,
        )
        row = await connection.fetchrow(
            "SELECT site_id, project_id, name, time_zone FROM platform.sites"
            " WHERE project_id = $1 AND name = $2",
            project_id,
            name,
        )
    return Site(*row)


async def list_sites(pool: Pool, project_id: int) -> list[Site]:
    """List a project's sites by name."""
    async with catalogue_transaction(pool, project_id) as connection:
        rows = await connection.fetch(
            "SELECT site_id, project_id, name, time_zone FROM platform.sites"
            " WHERE project_id = $1 ORDER BY name",
            project_id,
        )
    return [Site(*row) for row in rows]
