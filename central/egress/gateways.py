"""The gateways of a project: when they were last seen, and their ledger as central knows it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from central.access import ProjectCaller, ProjectSlug
from central.egress.query import reading
from central.problems import documented
from central.storage.catalogue import GatewayRow, list_gateways
from central.storage.database import Connection, Pool

SEEN_WITHIN: Final = timedelta(seconds=15)

_LEDGER: Final = """
SELECT s.gateway_id, s.delivered, s.collapsed, s.quarantined,
    coalesce(g.gaps, 0) AS gaps, coalesce(g.lost, 0) AS lost, coalesce(g.missed, 0) AS missed
FROM (
    SELECT gateway_id, sum(delivered)::int8 AS delivered, sum(collapsed)::int8 AS collapsed,
        sum(quarantined)::int8 AS quarantined
    FROM settled GROUP BY gateway_id
) AS s
LEFT JOIN (
    SELECT gateway_id, count(*) AS gaps, sum(count)::int8 AS lost, sum(missed)::int8 AS missed
    FROM gaps GROUP BY gateway_id
) AS g USING (gateway_id)
"""


class LedgerOut(BaseModel):
    """Readings by what became of them, and the declared holes, since the gateway was made."""

    delivered: int = 0
    collapsed: int = 0
    quarantined: int = 0
    gaps: int = Field(default=0, description="Declared holes.")
    lost: int = Field(default=0, description="Readings the holes name as lost.")
    missed: int = Field(default=0, description="Polls the holes name as missed.")


class GatewayOut(BaseModel):
    """A gateway as central knows it."""

    name: str
    site: str
    state: Literal["connected", "away", "never_seen", "revoked"]
    last_seen_at: datetime | None
    software: str | None
    created_at: datetime
    ledger: LedgerOut


class GatewaysOut(BaseModel):
    """All gateways of a project."""

    gateways: list[GatewayOut]


def routes(pool: Pool, limit_s: float) -> APIRouter:
    """Make the route of gateways."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["gateways"])

    @router.get("/gateways", responses=documented(401, 403, 422, 503))
    async def gateways(project: ProjectSlug, caller: ProjectCaller) -> GatewaysOut:
        """List the gateways with their state and ledger."""
        rows = await list_gateways(pool, caller.project_id)
        async with reading(pool, project, limit_s) as connection:
            ledgers = await _ledgers(connection)
        now = datetime.now(UTC)
        return GatewaysOut(
            gateways=[_write(row, ledgers.get(row.gateway_id, LedgerOut()), now) for row in rows]
        )

    return router


async def _ledgers(connection: Connection) -> Mapping[int, LedgerOut]:
    rows: list[Any] = await connection.fetch(_LEDGER)
    return {row["gateway_id"]: LedgerOut(**dict(row)) for row in rows}


def _write(row: GatewayRow, ledger: LedgerOut, now: datetime) -> GatewayOut:
    return GatewayOut(
        name=row.name,
        site=row.site,
        state=state_of(row, now),
        last_seen_at=row.last_seen_at,
        software=row.software,
        created_at=row.created_at,
        ledger=ledger,
    )


def state_of(
    row: GatewayRow, now: datetime
) -> Literal["connected", "away", "never_seen", "revoked"]:
    """Tell the state: connected gateways are seen every few seconds."""
    if row.revoked:
        return "revoked"
    if row.last_seen_at is None:
        return "never_seen"
    return "connected" if now - row.last_seen_at <= SEEN_WITHIN else "away"
