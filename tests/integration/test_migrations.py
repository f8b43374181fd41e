"""The migration runner: forward only, checksummed, once, whoever runs it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from central.storage.catalogue import create_project
from central.storage.database import DatabaseRefused, open_pool, project_transaction
from central.storage.embedded import EmbeddedPostgres
from central.storage.migrate import FOLDER, MigrationRefused, load_migrations, migrate
from central.storage.roles import prepare_database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

ALL = len(load_migrations(FOLDER))
PER_PROJECT = len(load_migrations(FOLDER / "project"))


@pytest.fixture
async def empty(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database in which nothing was applied yet: the owner's DSN."""
    name = "test_migrations"
    async with open_pool(postgres_server.superuser_dsn(), size=1) as superuser:
        await prepare_database(superuser, name)
        yield postgres_server.owner_dsn(name)
        await superuser.fetchval(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may change."""
    shutil.copytree(FOLDER, tmp_path / "migrations")
    return tmp_path / "migrations"


async def test_everything_is_applied_once(empty: str) -> None:
    assert await migrate(empty) == ALL
    assert await migrate(empty) == 0


async def test_several_at_once_apply_each_file_once(empty: str) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(4)))

    assert sum(applied) == ALL


async def test_an_old_database_gets_what_is_new_platform_and_projects(
    empty: str, folder: Path
) -> None:
    await migrate(empty, folder)
    async with open_pool(empty, size=2) as owner:
        for slug in ("one", "two"):
            await create_project(owner, slug)
        (folder / f"{ALL + 1:04}_more.sql").write_text(
            "ALTER TABLE platform.sites ADD COLUMN area float8"
        )
        (folder / "project" / f"{PER_PROJECT + 1:04}_more.sql").write_text(
            "CREATE TABLE more (a int)"
        )

        assert await migrate(empty, folder) == 3

        assert await migrate(empty, folder) == 0
        async with owner.transaction() as connection:
            granted = await connection.fetchval(
                "SELECT bool_and(has_table_privilege(role, role || '.more', 'INSERT'))"
                " FROM unnest(ARRAY['p_one', 'p_two']) AS role"
            )
    assert granted


async def test_an_applied_file_that_changed_is_refused(empty: str, folder: Path) -> None:
    await migrate(empty, folder)
    path = folder / "0001_log.sql"
    path.write_text(path.read_text() + "\n-- one more word")

    with pytest.raises(MigrationRefused, match="0001_log was applied with another text"):
        await migrate(empty, folder)


async def test_a_newer_database_is_refused(empty: str, folder: Path) -> None:
    (folder / f"{ALL + 1:04}_more.sql").write_text("SELECT 1")
    await migrate(empty, folder)

    with pytest.raises(MigrationRefused, match=f"has migration {ALL + 1}"):
        await migrate(empty)


async def test_a_file_that_fails_leaves_nothing_and_can_be_mended(empty: str, folder: Path) -> None:
    path = folder / f"{ALL + 1:04}_more.sql"
    path.write_text("CREATE TABLE platform.half (a int); SELECT nonsense")
    with pytest.raises(DatabaseRefused, match="nonsense"):
        await migrate(empty, folder)

    path.write_text("CREATE TABLE platform.half (a int)")

    assert await migrate(empty, folder) == 1


@pytest.mark.parametrize("name", ["0009_hole.sql", "1_short.sql", "0001_twice.sql"])
def test_files_that_are_not_numbered_in_order_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1")

    with pytest.raises(MigrationRefused):
        load_migrations(folder)


async def test_a_new_project_has_a_schema_that_the_service_can_use(
    empty: str, postgres_server: EmbeddedPostgres
) -> None:
    await migrate(empty)
    async with open_pool(empty, size=2) as owner:
        await asyncio.gather(*(create_project(owner, "demo") for _ in range(3)))

    async with (
        open_pool(postgres_server.service_dsn("test_migrations"), size=1) as service,
        project_transaction(service, "demo") as connection,
    ):
        assert await connection.fetchval("SELECT count(*) FROM readings") == 0
