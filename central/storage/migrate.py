"""The migration runner: numbered SQL files, forward only, checksummed, under a lock.

Platform files lie in `migrations/`, those of every project's schema in `migrations/project/`.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from central.storage.database import Connection, Pool, open_pool, schema_of
from central.storage.hypertable import make_hypertable
from shared.errors import SpineError

FOLDER: Final = Path(__file__).parent / "migrations"
PLATFORM: Final = "platform"
SERVICE_ROLE: Final = "spine_service"
_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_LOCK: Final = 0x5350_494E_4501
_BOOK: Final = """
CREATE SCHEMA IF NOT EXISTS migrations;
CREATE TABLE IF NOT EXISTS migrations.applied (
    scope text NOT NULL,
    number int4 NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, number)
);
"""


class MigrationRefused(SpineError):
    """The database and this software's migrations do not belong together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name and text."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(folder: Path) -> list[Migration]:
    """Read a folder's migrations; they must be numbered 1, 2, 3 … without a hole."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationRefused(f"{path}: a migration is called NNNN_name.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationRefused(f"{folder}: migrations are not numbered 1 to {len(found)}")
    return found


async def migrate(owner_dsn: str, folder: Path = FOLDER) -> int:
    """Bring the platform and every project up to date; gives how many files were applied.

    `owner_dsn` is the owner role's. Safe to call from several processes at once. Raises
    `MigrationRefused` where an applied file has changed or the database is newer.
    """
    async with open_pool(owner_dsn, "spine-migrate", size=1) as pool:
        applied = 0
        async with pool.transaction() as connection:
            await _lock(connection)
            await connection.execute(_BOOK)
        applied += await _apply(pool, PLATFORM, load_migrations(folder))
        for slug in await _projects(pool):
            applied += await migrate_project(pool, slug, folder / "project")
    return applied


async def migrate_project(owner: Pool, slug: str, folder: Path = FOLDER / "project") -> int:
    """Bring one project's schema and role up to date; both are made where they are missing.

    Its readings become a hypertable where the database has TimescaleDB, even if only since today.
    """
    schema = schema_of(slug)
    async with owner.transaction() as connection:
        await _lock(connection)
        await _make_role(connection, schema)
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    applied = await _apply(owner, schema, load_migrations(folder), search_path=schema)
    async with owner.transaction() as connection:
        await _lock(connection)
        await _search(connection, schema)
        await make_hypertable(connection)
        await connection.execute(
            f'GRANT USAGE ON SCHEMA "{schema}" TO "{schema}";'
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO "{schema}"'
        )
    return applied


async def _apply(
    pool: Pool, scope: str, migrations: list[Migration], search_path: str | None = None
) -> int:
    count = 0
    for migration in migrations:
        async with pool.transaction() as connection:
            await _lock(connection)
            if await _is_applied(connection, scope, migration):
                continue
            if search_path is not None:
                await _search(connection, search_path)
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO migrations.applied (scope, number, name, checksum)"
                " VALUES ($1, $2, $3, $4)",
                scope,
                migration.number,
                migration.name,
                migration.checksum,
            )
            count += 1
    await _refuse_newer(pool, scope, len(migrations))
    return count


async def _is_applied(connection: Connection, scope: str, migration: Migration) -> bool:
    checksum = await connection.fetchval(
        "SELECT checksum FROM migrations.applied WHERE scope = $1 AND number = $2",
        scope,
        migration.number,
    )
    if checksum is not None and checksum != migration.checksum:
        raise MigrationRefused(
            f"{scope}: migration {migration.number:04}_{migration.name} was applied with another "
            "text. Applied migrations never change: restore the file and add a new one."
        )
    return checksum is not None


async def _refuse_newer(pool: Pool, scope: str, known: int) -> None:
    newest = await pool.fetchval(
        "SELECT coalesce(max(number), 0) FROM migrations.applied WHERE scope = $1", scope
    )
    if newest > known:
        raise MigrationRefused(
            f"{scope}: the database has migration {newest}, this software knows {known}. "
            "Install the newer software again, or restore a backup."
        )


async def _projects(pool: Pool) -> list[str]:
    async with pool.transaction() as connection:
        await connection.fetchval("SELECT set_config('spine.platform', 'on', true)")
        rows = await connection.fetch("SELECT slug FROM platform.projects ORDER BY project_id")
    return [row["slug"] for row in rows]


async def _search(connection: Connection, schema: str) -> None:
    await connection.fetchval("SELECT set_config('search_path', $1, true)", schema)


async def _lock(connection: Connection) -> None:
    await connection.fetchval("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def _make_role(connection: Connection, role: str) -> None:
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f'CREATE ROLE "{role}" NOLOGIN NOINHERIT')
    await connection.execute(
        f'GRANT "{role}" TO {SERVICE_ROLE} WITH SET TRUE, INHERIT FALSE, ADMIN FALSE'
    )
