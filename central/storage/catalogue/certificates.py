"""Gateway certificates: who a fingerprint is, until it expires or is revoked."""

from dataclasses import dataclass
from datetime import datetime

from central.storage.catalogue.gateways import Gateway
from central.storage.database import Pool, platform_transaction

_FIND = """
SELECT
    gateways.gateway_id, gateways.project_id, projects.slug, gateways.name,
    certificates.spki_sha256, certificates.not_after,
    certificates.revoked_at IS NOT NULL OR gateways.revoked_at IS NOT NULL AS revoked,
    certificates.not_after <= now() AS expired
FROM platform.certificates
JOIN platform.gateways USING (gateway_id)
JOIN platform.projects ON projects.project_id = gateways.project_id
WHERE certificates.fingerprint = $1
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that central issued, expired or not."""

    gateway: Gateway
    spki_sha256: bytes
    not_after: datetime
    revoked: bool
    expired: bool


async def register_certificate(
    pool: Pool, gateway_id: int, fingerprint: bytes, spki_sha256: bytes, not_after: datetime
) -> None:
    """Keep a certificate that was issued; `fingerprint` is the SHA-256 of its DER."""
    async with platform_transaction(pool) as connection:
        await connection.execute(
            """
            INSERT INTO platform.certificates
            (fingerprint, project_id, gateway_id, spki_sha256, not_after)
            SELECT $2, project_id, gateway_id, $3, $4
            FROM platform.gateways WHERE gateway_id = $1 AND revoked_at IS NULL
            ON CONFLICT DO NOTHING
            """,
            gateway_id,
            fingerprint,
            spki_sha256,
            not_after,
        )


async def find_certificate(pool: Pool, fingerprint: bytes) -> Certificate | None:
    """Find a certificate by its fingerprint, also an expired or revoked one."""
    async with platform_transaction(pool) as connection:
        row = await connection.fetchrow(_FIND, fingerprint)
    if row is None:
        return None
    gateway = Gateway(row["gateway_id"], row["project_id"], row["slug"], row["name"])
    return Certificate(
        gateway, row["spki_sha256"], row["not_after"], row["revoked"], row["expired"]
    )


async def identify(pool: Pool, fingerprint: bytes) -> Gateway | None:
    """Tell whose certificate this is; None if it is unknown, revoked or expired."""
    found = await find_certificate(pool, fingerprint)
    return None if found is None or found.revoked or found.expired else found.gateway


async def refused_fingerprints(pool: Pool) -> set[bytes]:
    """List the certificates that are revoked and not yet expired."""
    async with platform_transaction(pool) as connection:
        rows = await connection.fetch(
            "SELECT fingerprint FROM platform.certificates"
            " WHERE revoked_at IS NOT NULL AND not_after > now()"
        )
    return {row["fingerprint"] for row in rows}
