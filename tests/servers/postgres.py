"""Real servers for tests, embedded Postgres and TimescaleDB, and fresh migrated databases in them.

The fixtures are in `postgres_fixtures.py` and `timescale_fixtures.py`.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from central.storage.catalogue import (
    Gateway,
    Project,
    create_gateway,
    create_project,
    create_site,
    find_gateway,
)
from central.storage.database import Pool, open_pool
from central.storage.embedded import EmbeddedPostgres, embedded_postgres
from central.storage.migrate import migrate
from central.storage.roles import DATABASE, prepare_database, prepare_extension

TEMPLATE = "spine_template"
_numbers = count(1)


class Server(Protocol):
    """A running server and how its databases are reached."""

    def service_dsn(self, database: str = DATABASE) -> str: ...

    def owner_dsn(self, database: str = DATABASE) -> str: ...

    def superuser_dsn(self, database: str = "postgres") -> str: ...


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own, with a pool of each role."""

    service_dsn: str
    owner_dsn: str
    service: Pool
    owner: Pool

    async def add_project(self, slug: str = "demo") -> Project:
        """Make a project."""
        return await create_project(self.owner, slug)

    async def add_gateway(self, project: Project, name: str = "gw1") -> Gateway:
        """Make a gateway at a site called main."""
        site = await create_site(self.service, project.project_id, "main")
        found = await find_gateway(self.service, project.project_id, name)
        return found or await create_gateway(self.service, project.project_id, site.site_id, name)


@asynccontextmanager
async def running_server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run a server for tests that has a migrated database to copy."""
    # Tests of durability start servers of their own; here only speed matters.
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "60"}
    async with embedded_postgres(folder, settings) as running:
        await prepare_template(running)
        yield running


async def prepare_template(server: Server) -> None:
    """Make the migrated database to copy; with TimescaleDB where the server has it."""
    async with open_pool(server.superuser_dsn(), size=1) as superuser:
        await prepare_database(superuser, TEMPLATE)
    async with open_pool(server.superuser_dsn(TEMPLATE), size=1) as superuser:
        await prepare_extension(superuser)
    await migrate(server.owner_dsn(TEMPLATE))


@asynccontextmanager
async def fresh_database(server: Server) -> AsyncIterator[Database]:
    """Copy the migrated database under a new name, and drop the copy afterwards."""
    name = f"test_{next(_numbers)}"
    async with AsyncExitStack() as stack:
        superuser = await stack.enter_async_context(open_pool(server.superuser_dsn(), size=1))
        await superuser.fetchval(
            f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER spine_owner STRATEGY wal_log"
        )
        stack.push_async_callback(superuser.fetchval, f"DROP DATABASE {name} WITH (FORCE)")
        dsns = server.service_dsn(name), server.owner_dsn(name)
        service = await stack.enter_async_context(open_pool(dsns[0], "test", size=12))
        owner = await stack.enter_async_context(open_pool(dsns[1], "test-owner", size=2))
        yield Database(*dsns, service, owner)
