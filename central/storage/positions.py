"""How far a project has read the log; moved only in the transaction that uses what was read."""

from central.messaging.log import Position
from central.storage.database import Connection, Pool, project_transaction
from shared.errors import SpineError


class Fenced(SpineError):
    """Another writer has moved the position: this one must not write, and reads it anew."""


async def load_position(pool: Pool, project: str, topic: str, partition: int) -> Position | None:
    """Read the stored position; None if nothing was read yet."""
    async with project_transaction(pool, project) as connection:
        row = await connection.fetchrow(
            "SELECT log_id, log_partition, next_offset FROM log_positions"
            " WHERE topic = $1 AND log_partition = $2",
            topic,
            partition,
        )
    return None if row is None else Position(*row)


async def move_position(
    connection: Connection, topic: str, old: Position | None, new: Position
) -> None:
    """Compare and set: from `old` to `new`, or raise `Fenced`; locks the position to the commit."""
    if old is None:
        moved = await connection.fetchval(
            "INSERT INTO log_positions (topic, log_partition, log_id, next_offset)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING true",
            topic,
            new.partition,
            new.log_id,
            new.offset,
        )
    else:
        moved = await connection.fetchval(
            "UPDATE log_positions SET log_id = $3, next_offset = $4"
            " WHERE topic = $1 AND log_partition = $2 AND log_id = $5 AND next_offset = $6"
            " RETURNING true",
            topic,
            new.partition,
            new.log_id,
            new.offset,
            old.log_id,
            old.offset,
        )
    if not moved:
        raise Fenced(f"{topic}: another writer has moved the position from {old}")
