"""Fixtures of TimescaleDB beside the embedded Postgres, for tests that must pass on both.

`timescale_server` is the session's TimescaleDB, `timescale` a fresh migrated database in it. A test
module that runs on both servers takes `either_server` or `either_database` for its own:

    pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.timescale_fixtures"]

    @pytest.fixture
    def database(either_database: Database) -> Database:
        return either_database
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import pytest

from central.storage.database import open_pool
from central.storage.roles import DATABASE
from tests.servers.postgres import Database, Server, fresh_database, prepare_template
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]


@dataclass(frozen=True, slots=True)
class TimescaleServer:
    """The stack's TimescaleDB."""

    stack: RunningStack

    def service_dsn(self, database: str = DATABASE) -> str:
        return self._dsn("SPINE_DSN", database)

    def owner_dsn(self, database: str = DATABASE) -> str:
        return self._dsn("SPINE_OWNER_DSN", database)

    def superuser_dsn(self, database: str = "postgres") -> str:
        return self._dsn("STACK_POSTGRES_DSN", database)

    def _dsn(self, name: str, database: str) -> str:
        return urlunsplit(urlsplit(self.stack.env[name])._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
async def timescale_server(timescale_stack: RunningStack) -> TimescaleServer:
    server = TimescaleServer(timescale_stack)
    async with open_pool(server.superuser_dsn(), size=1) as superuser:
        # As on the embedded one: kill -9 loses nothing by it, and these tests cut no power.
        for name in ("fsync", "full_page_writes"):
            await superuser.fetchval(f"ALTER SYSTEM SET {name} = off")
        await superuser.fetchval("SELECT pg_reload_conf()")
    await prepare_template(server)
    return server


@pytest.fixture
async def timescale(timescale_server: TimescaleServer) -> AsyncIterator[Database]:
    async with fresh_database(timescale_server) as fresh:
        yield fresh


@pytest.fixture(params=["embedded", "timescale"], scope="session")
def either_server(request: pytest.FixtureRequest) -> Server:
    name = {"embedded": "postgres_server", "timescale": "timescale_server"}[request.param]
    server: Server = request.getfixturevalue(name)
    return server


@pytest.fixture
async def either_database(either_server: Server) -> AsyncIterator[Database]:
    async with fresh_database(either_server) as fresh:
        yield fresh
