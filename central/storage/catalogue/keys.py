"""API keys: shown once as `spine_<prefix>_<secret>`, kept as a hash, scoped to one project."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from central.storage.database import Pool, catalogue_transaction, platform_transaction
from central.storage.secret import hash_of, new_secret

_FORM: Final = re.compile(r"^spine_([a-z2-7]{8})_([a-z2-7]{52})$")
DEFAULT_SCOPES: Final = ("read",)


@dataclass(frozen=True, slots=True)
class Key:
    """A valid API key: the project it opens, and what for."""

    key_id: int
    project_id: int
    project: str
    name: str
    scopes: tuple[str, ...]


async def create_key(
    pool: Pool,
    project_id: int,
    name: str,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    expires_at: datetime | None = None,
) -> str:
    """Make a key and give its clear text, which nobody can give again."""
    prefix, secret = new_secret(5), new_secret()
    async with catalogue_transaction(pool, project_id) as connection:
        await connection.execute(
            "INSERT INTO platform.api_keys"
            " (project_id, name, prefix, secret_hash, scopes, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            project_id,
            name,
            prefix,
            hash_of(secret),
            list(scopes),
            expires_at,
        )
    return f"spine_{prefix}_{secret}"


async def find_key(pool: Pool, clear: str) -> Key | None:
    """Find a key by its clear text; None if it is wrong, revoked or expired."""
    form = _FORM.match(clear)
    if form is None:
        return None
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(
            """
            SELECT key_id, project_id, slug, api_keys.name, scopes, secret_hash
            FROM platform.api_keys JOIN platform.projects USING (project_id)
            WHERE prefix = $1 AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > now())
            """,
            form[1],
        )
    if row is None or not hmac.compare_digest(row["secret_hash"], hash_of(form[2])):
        return None
    return Key(row["key_id"], row["project_id"], row["slug"], row["name"], tuple(row["scopes"]))


async def revoke_key(pool: Pool, project_id: int, name: str) -> int:
    """Revoke the keys of a name; gives how many there were."""
    async with catalogue_transaction(pool, project_id) as connection:
        rows = await connection.fetch(
            "UPDATE platform.api_keys SET revoked_at = now()"
            " WHERE project_id = $1 AND name = $2 AND revoked_at IS NULL RETURNING key_id",
            project_id,
            name,
        )
    return len(rows)
