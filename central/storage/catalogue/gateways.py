"""Gateways: what a project has at its sites, when they were seen, and their end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from central.storage.catalogue.projects import CatalogueError
from central.storage.database import (
    DuplicateKey,
    Pool,
    catalogue_transaction,
    platform_transaction,
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway as the link knows it."""

    gateway_id: int
    project_id: int
    project: str
    name: str


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway as a list shows it."""

    gateway_id: int
    name: str
    site: str
    created_at: datetime
    last_seen_at: datetime | None
    software: str | None
    revoked: bool


async def create_gateway(pool: Pool, project_id: int, site_id: int, name: str) -> Gateway:
    """Make a gateway; raises `CatalogueError` where the project has one of this name."""
    try:
        async with catalogue_transaction(pool, project_id) as connection:
            gateway_id = await connection.fetchval(
                "INSERT INTO platform.gateways (project_id, site_id, name)"
                " SELECT project_id, site_id, $3 FROM platform.sites"
                " WHERE project_id = $1 AND site_id = $2 RETURNING gateway_id",
                project_id,
                site_id,
                name,
            )
    except DuplicateKey as error:
        raise CatalogueError(f"the project has a gateway called {name} already") from error
    if gateway_id is None:
        raise CatalogueError(f"the project has no site {site_id}")
    gateway = await find_gateway(pool, project_id, name)
    if gateway is None:
        raise CatalogueError(f"the gateway {name} was made and is gone again")
    return gateway


async def find_gateway(pool: Pool, project_id: int, name: str) -> Gateway | None:
    """Find a gateway by its name in a project, revoked or not."""
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(
            """
            SELECT gateways.gateway_id, gateways.project_id, projects.slug, gateways.name
            FROM platform.gateways JOIN platform.projects USING (project_id)
            WHERE project_id = $1 AND gateways.name = $2
            """,
            project_id,
            name,
        )
    return None if row is None else Gateway(*row)


async def list_gateways(pool: Pool, project_id: int) -> list[GatewayRow]:
    """List a project's gateways by name."""
    async with catalogue_transaction(pool, project_id) as connection:
        rows = await connection.fetch(
            """
            SELECT
                gateways.gateway_id, gateways.name, sites.name AS site, gateways.created_at,
                gateways.last_seen_at, gateways.software, gateways.revoked_at IS NOT NULL
            FROM platform.gateways JOIN platform.sites USING (project_id, site_id)
            WHERE project_id = $1
            ORDER BY gateways.name
            """,
            project_id,
        )
    return [GatewayRow(*row) for row in rows]


async def note_hello(pool: Pool, gateway_id: int, software: str, at: datetime) -> None:
    """Keep what a gateway runs, and that it was heard."""
    async with platform_transaction(pool) as connection:
        await connection.execute(
            "UPDATE platform.gateways SET last_seen_at = greatest(last_seen_at, $2), software = $3"
            " WHERE gateway_id = $1",
            gateway_id,
            at,
            software.replace("\x00", ""),
        )


async def note_seen(pool: Pool, gateway_ids: Sequence[int], at: datetime) -> None:
    """Keep that gateways were heard."""
    async with platform_transaction(pool) as connection:
        await connection.execute(
            "UPDATE platform.gateways SET last_seen_at = greatest(last_seen_at, $2)"
            " WHERE gateway_id = ANY($1)",
            list(gateway_ids),
            at,
        )


async def revoke_gateway(pool: Pool, project_id: int, name: str) -> bool:
    """Revoke a gateway, its certificates and its codes for good; False where there is none."""
    async with catalogue_transaction(pool, project_id) as connection:
        gateway_id = await connection.fetchval(
            "UPDATE platform.gateways SET revoked_at = coalesce(revoked_at, now())"
            " WHERE project_id = $1 AND name = $2 RETURNING gateway_id",
            project_id,
            name,
        )
        await connection.execute(
            "UPDATE platform.certificates SET revoked_at = coalesce(revoked_at, now())"
            " WHERE gateway_id = $1",
            gateway_id,
        )
        await connection.execute(
            "UPDATE platform.enrolment_codes SET used_at = coalesce(used_at, now())"
            " WHERE gateway_id = $1",
            gateway_id,
        )
    return gateway_id is not None
