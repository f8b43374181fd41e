"""The roles that stand before the first migration, made once by a superuser.

`spine_owner` owns every schema and makes roles; migrations and new projects use it. `spine_service`
is what central runs as: it may become a project's role, and inherits from none.
"""

from pathlib import Path
from typing import Final

from central.storage.database import Connection, Pool

OWNER: Final = "spine_owner"
SERVICE: Final = "spine_service"
DATABASE: Final = "spine"
EXTENSION: Final = "timescaledb"
_PREPARE_EXTENSION: Final = Path(__file__).with_name("extension.sql")


async def prepare_roles(superuser: Pool, owner_password: str, service_password: str) -> None:
    """Make both login roles, or set their passwords where they exist."""
    async with superuser.transaction() as connection:
        await _login_role(connection, OWNER, "CREATEROLE", owner_password)
        await _login_role(connection, SERVICE, "NOCREATEROLE", service_password)


async def prepare_database(superuser: Pool, name: str = DATABASE) -> None:
    """Make the database where it is missing: it is the owner's, and nobody else may connect."""
    if await superuser.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        return
    await superuser.fetchval(f'CREATE DATABASE "{name}" OWNER {OWNER}')
    async with superuser.transaction() as connection:
        await connection.execute(
            f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC;'
            f'GRANT CONNECT ON DATABASE "{name}" TO {SERVICE};'
            # The collision path keeps a batch in a temporary table.
            f'GRANT TEMPORARY ON DATABASE "{name}" TO PUBLIC'
        )


async def prepare_extension(superuser: Pool) -> bool:
    """Put TimescaleDB into the database the pool is connected to; False where the server has none.

    `extension.sql` does it, and takes from everybody the right to use its machinery. Readings
    become hypertables with the next run of the migrations.
    """
    is_there = "SELECT 1 FROM pg_available_extensions WHERE name = $1"
    if not await superuser.fetchval(is_there, EXTENSION):
        return False
    async with superuser.transaction() as connection:
        await connection.execute(_PREPARE_EXTENSION.read_text(encoding="utf-8"))
    return True


async def _login_role(connection: Connection, role: str, rights: str, password: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    # Utility statements take no parameters; the database itself quotes the password.
    quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
    await connection.execute(
        f"{verb} ROLE {role} LOGIN NOSUPERUSER NOINHERIT {rights} PASSWORD {quoted}"
    )
