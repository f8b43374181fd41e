"""What became of every batch: the settled sets, which are also the receipts ingress sends."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from central.storage.database import Connection, Pool, project_transaction
from shared.link import Range

EpochKey = tuple[int, int]
"""(gateway_id, epoch)."""


@dataclass(frozen=True, slots=True)
class SettledRow:
    """One epoch of one gateway: its settled seqs, and what became of their readings in all."""

    gateway_id: int
    epoch: int
    seqs: tuple[Range, ...]
    delivered: int
    collapsed: int
    quarantined: int
    version: int


@dataclass(slots=True)
class Settling:
    """What one transaction adds to an epoch."""

    seqs: list[Range] = field(default_factory=list)
    delivered: int = 0
    collapsed: int = 0
    quarantined: int = 0


async def read_settled(
    pool: Pool,
    project: str,
    gateway_id: int | None = None,
    epochs: Collection[int] | None = None,
    after_version: int | None = None,
) -> list[SettledRow]:
    """Read settled rows of a project, oldest change first; one statement, so one snapshot.

    Versions become visible in their order: who asks next for those after the greatest version it
    has seen misses none.
    """
    async with project_transaction(pool, project) as connection:
        rows = await connection.fetch(
            """
            SELECT gateway_id, epoch, seqs, delivered, collapsed, quarantined, version
            FROM settled
            WHERE version > coalesce($3, 0)
            AND ($1::int4 IS NULL OR gateway_id = $1)
            AND ($2::int8[] IS NULL OR epoch = ANY($2))
            ORDER BY version, gateway_id, epoch
            """,
            gateway_id,
            None if epochs is None else list(epochs),
            after_version,
        )
    return [SettledRow(row[0], row[1], ranges_from(row[2]), *row[3:]) for row in rows]


async def lock_settled(
    connection: Connection, wanted: Mapping[EpochKey, Sequence[int]]
) -> set[tuple[int, int, int]]:
    """Lock the rows of epochs in order, made where missing, and tell which seqs are in them.

    `wanted` has the seqs asked for per (gateway_id, epoch); gives those that are settled already.
    """
    keys = sorted(wanted)
    gateways, epochs = [key[0] for key in keys], [key[1] for key in keys]
    await connection.execute(
        """
        INSERT INTO settled (gateway_id, epoch)
        SELECT gateway_id, epoch FROM unnest($1::int4[], $2::int8[]) AS wanted (gateway_id, epoch)
        ORDER BY gateway_id, epoch
        ON CONFLICT DO NOTHING
        """,
        gateways,
        epochs,
    )
    await connection.execute(
        """
        SELECT FROM settled
        JOIN unnest($1::int4[], $2::int8[]) AS wanted (gateway_id, epoch) USING (gateway_id, epoch)
        ORDER BY gateway_id, epoch
        FOR UPDATE OF settled
        """,
        gateways,
        epochs,
    )
    asked = [(*key, seq) for key in keys for seq in wanted[key]]
    rows = await connection.fetch(
        """
        SELECT gateway_id, epoch, seq
        FROM unnest($1::int4[], $2::int8[], $3::int8[]) AS asked (gateway_id, epoch, seq)
        JOIN settled USING (gateway_id, epoch)
        WHERE settled.seqs @> asked.seq
        """,
        [item[0] for item in asked],
        [item[1] for item in asked],
        [item[2] for item in asked],
    )
    return {(row[0], row[1], row[2]) for row in rows}


async def overtaken_seqs(
    connection: Connection, key: EpochKey, ranges: Sequence[Range]
) -> tuple[Range, ...]:
    """Tell which of these seqs are settled already."""
    found = await connection.fetchval(
        "SELECT seqs * $3::text::int8multirange FROM settled WHERE gateway_id = $1 AND epoch = $2",
        *key,
        multirange_text(ranges),
    )
    return ranges_from(found or [])


async def add_settled(connection: Connection, added: Mapping[EpochKey, Settling]) -> None:
    """Add to settled rows under a new version; the caller has locked them and commits next.

    The version's lock is held to the commit, so it comes last in the transaction.
    """
    if not added:
        return
    version = await connection.fetchval(
        "UPDATE settled_clock SET version = version + 1 RETURNING version"
    )
    keys = sorted(added)
    await connection.execute(
        """
        UPDATE settled SET
            seqs = settled.seqs + added.seqs::int8multirange,
            delivered = settled.delivered + added.delivered,
            collapsed = settled.collapsed + added.collapsed,
            quarantined = settled.quarantined + added.quarantined,
            version = $7
        FROM unnest($1::int4[], $2::int8[], $3::text[], $4::int8[], $5::int8[], $6::int8[])
            AS added (gateway_id, epoch, seqs, delivered, collapsed, quarantined)
        WHERE settled.gateway_id = added.gateway_id AND settled.epoch = added.epoch
        """,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [multirange_text(added[key].seqs) for key in keys],
        [added[key].delivered for key in keys],
        [added[key].collapsed for key in keys],
        [added[key].quarantined for key in keys],
        version,
    )


def multirange_text(ranges: Sequence[Range]) -> str:
    """Write closed ranges as Postgres reads a multirange."""
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges) + "}"


def ranges_from(multirange: Sequence[Any]) -> tuple[Range, ...]:
    """Read closed ranges from a discrete multirange, which Postgres keeps half open."""
    return tuple((part.lower, part.upper - 1) for part in multirange)
