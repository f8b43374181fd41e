"""One-time logins and the browser sessions they open; both kept as hashes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from central.storage.database import Pool, catalogue_transaction, platform_transaction
from central.storage.secret import hash_of, new_secret

LOGIN_LIFETIME: Final = timedelta(minutes=15)
SESSION_LIFETIME: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session in one project."""

    project_id: int
    project: str
    expires_at: datetime


async def issue_login(pool: Pool, project_id: int) -> str:
    """Make a one-time login token, valid for 15 minutes."""
    token = new_secret()
    async with catalogue_transaction(pool, project_id) as connection:
        await connection.execute("DELETE FROM platform.logins WHERE expires_at < now()")
        await connection.execute(
            "INSERT INTO platform.logins (token_hash, project_id, expires_at)"
            " VALUES ($1, $2, now() + $3)",
            hash_of(token),
            project_id,
            LOGIN_LIFETIME,
        )
    return token


async def redeem_login(pool: Pool, token: str) -> str | None:
    """Use a token up and open a session of 12 hours; None if it is wrong, used or expired."""
    session = new_secret()
    async with platform_transaction(pool) as connection:
        await connection.execute("DELETE FROM platform.sessions WHERE expires_at < now()")
        opened = await connection.fetchval(
            """
            WITH used AS (
                UPDATE platform.logins SET used_at = now()
                WHERE token_hash = $1 AND used_at IS NULL AND expires_at > now()
                RETURNING project_id
            )
            INSERT INTO platform.sessions (session_hash, project_id, expires_at)
            SELECT $2, project_id, now() + $3 FROM used
            RETURNING project_id
            """,
            hash_of(token),
            hash_of(session),
            SESSION_LIFETIME,
        )
    return None if opened is None else session


async def find_session(pool: Pool, clear: str) -> Session | None:
    """Find a session by the secret its browser holds; None if it is wrong or over."""
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(
            "SELECT project_id, slug, expires_at"
            " FROM platform.sessions JOIN platform.projects USING (project_id)"
            " WHERE session_hash = $1 AND expires_at > now()",
            hash_of(clear),
        )
    return None if row is None else Session(*row)


async def end_session(pool: Pool, clear: str) -> None:
    """End a session."""
    async with platform_transaction(pool) as connection:
        await connection.execute(
            "DELETE FROM platform.sessions WHERE session_hash = $1", hash_of(clear)
        )
