"""The fixtures `postgres_server` (one a session) and `database` (fresh and migrated, one a test).

A test module that says `pytest_plugins = ["tests.servers.postgres_fixtures"]` has them.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from central.storage.embedded import EmbeddedPostgres
from tests.servers.postgres import Database, fresh_database, running_server


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[EmbeddedPostgres]:
    # Not under pytest's own folder: another session would close that to the server's user.
    with TemporaryDirectory(prefix="spine-test-") as folder:
        async with running_server(Path(folder)) as running:
            yield running


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh
