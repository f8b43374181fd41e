"""One-time enrolment codes: one gateway, 15 minutes, kept as a hash."""

from datetime import timedelta
from typing import Final

from central.storage.catalogue.gateways import Gateway
from central.storage.catalogue.projects import CatalogueError
from central.storage.database import Pool, platform_transaction
from central.storage.secret import hash_of, new_secret

LIFETIME: Final = timedelta(minutes=15)
SECRET_BYTES: Final = 10
"""80 bits: 16 characters of base32, as docs/reference/link.md says."""


async def issue_code(pool: Pool, gateway: Gateway) -> str:
    """Make the secret of a code for a gateway, shown once; earlier unused codes of it end."""
    secret = new_secret(SECRET_BYTES)
    async with platform_transaction(pool) as connection:
        await connection.execute(
            "DELETE FROM platform.enrolment_codes"
            " WHERE gateway_id = $1 AND used_at IS NULL OR expires_at < now() - interval '1 day'",
            gateway.gateway_id,
        )
        kept = await connection.fetchval(
            """
            INSERT INTO platform.enrolment_codes (code_hash, project_id, gateway_id, expires_at)
            SELECT $1, project_id, gateway_id, now() + $3
            FROM platform.gateways WHERE gateway_id = $2 AND revoked_at IS NULL
            RETURNING gateway_id
            """,
            hash_of(secret),
            gateway.gateway_id,
            LIFETIME,
        )
    if kept is None:
        raise CatalogueError(f"the gateway {gateway.name} is revoked; make a new one")
    return secret


async def redeem_code(pool: Pool, secret: str) -> Gateway | None:
    """Use a code up; None if it is wrong, used or expired. Two at once: one gets it."""
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(
            """
            UPDATE platform.enrolment_codes AS codes SET used_at = now()
            FROM platform.gateways JOIN platform.projects USING (project_id)
            WHERE codes.code_hash = $1 AND codes.used_at IS NULL AND codes.expires_at > now()
            AND gateways.gateway_id = codes.gateway_id AND gateways.revoked_at IS NULL
            RETURNING gateways.gateway_id, gateways.project_id, projects.slug, gateways.name
            """,
            hash_of(secret),
        )
    return None if row is None else Gateway(*row)
