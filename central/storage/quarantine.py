"""Bytes that could not be taken as readings, kept with the reason."""

from collections.abc import Sequence

from central.messaging.log import Position, Record
from central.messaging.records import DeadRecord
from central.storage.database import Connection
from shared.clock import to_datetime


async def keep_quarantined(connection: Connection, dead: Sequence[DeadRecord]) -> None:
    """Keep batches as they came; one that is kept already stays as it is."""
    await connection.executemany(
        """
        INSERT INTO quarantine (
            gateway_id, epoch, seq, kind, code, detail, count, point_set, body, received_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (gateway_id, epoch, seq) DO NOTHING
        """,
        [
            (
                record.gateway_id,
                record.epoch,
                record.seq,
                storable(record.kind),
                storable(record.code),
                storable(record.detail),
                record.count,
                record.point_set,
                record.body,
                to_datetime(record.received_at),
            )
            for record in dead
        ],
    )


async def keep_dead_letter(
    connection: Connection, log_id: str, record: Record, detail: str
) -> Position:
    """Keep a record of the log that cannot be read; nothing is settled by it."""
    await connection.execute(
        """
        INSERT INTO dead_letters (topic, log_id, log_partition, log_offset, detail, body)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
        """,
        record.topic,
        log_id,
        record.partition,
        record.offset,
        storable(detail),
        record.value,
    )
    return Position(log_id, record.partition, record.offset + 1)


def storable(text: str) -> str:
    """Make a text that Postgres can keep: it has no character of number 0."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
