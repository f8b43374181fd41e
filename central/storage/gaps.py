"""Declared gaps: what a gateway says it could not read, or had and lost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from central.storage.database import Connection
from central.storage.settled import multirange_text, overtaken_seqs
from shared.clock import to_datetime
from shared.link import Range

_INSERT: Final = """
INSERT INTO gaps (
    gateway_id, gap_id, epoch, seq, cause, reason, points, from_at, to_at,
    count, missed, voided, overtaken, received_at, rollups
) VALUES (
    $1, $2, $3, $4, $5, $6, $7::text::int4multirange, $8, $9, $10, $11, $12::text::jsonb,
    $13::text::jsonb, $14, $15
) ON CONFLICT (gateway_id, gap_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap event as docs/reference/link.md has it, its series resolved to point ids."""

    gap_id: bytes
    cause: str
    reason: str
    points: tuple[Range, ...]
    from_at: datetime
    to_at: datetime
    count: int | None
    missed: int | None
    voided: Mapping[int, tuple[Range, ...]]
    rollups: int = 0

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Gap | None":
        """Read an event; None if it is not a gap that can be kept as one."""
        if event.get("event") != "gap" or not isinstance(event.get("id"), bytes):
            return None
        try:
            return cls(
                event["id"],
                str(event["cause"]),
                str(event["reason"]),
                _ranges(event["points"]),
                to_datetime(event["from_us"]),
                to_datetime(event["to_us"]),
                event["count"],
                event["missed"],
                {int(part["epoch"]): _ranges(part["seqs"]) for part in event["voided"]},
                int(event.get("rollups") or 0),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


async def keep_gap(
    connection: Connection, named: tuple[int, int, int], received_at: datetime, gap: Gap
) -> None:
    """Keep a gap once, by its id; `named` is (gateway_id, epoch, seq) of the batch that told it.

    The caller has locked the epochs it voids, and settles them after this.
    """
    overtaken = {
        epoch: await overtaken_seqs(connection, (named[0], epoch), ranges)
        for epoch, ranges in gap.voided.items()
    }
    await connection.execute(
        _INSERT,
        named[0],
        gap.gap_id,
        named[1],
        named[2],
        gap.cause,
        gap.reason,
        multirange_text(gap.points),
        gap.from_at,
        gap.to_at,
        gap.count,
        gap.missed,
        _by_epoch(gap.voided),
        _by_epoch({epoch: ranges for epoch, ranges in overtaken.items() if ranges}),
        received_at,
        gap.rollups,
    )


def _ranges(pairs: Sequence[Sequence[int]]) -> tuple[Range, ...]:
    ranges = tuple((int(first), int(last)) for first, last in pairs)
    if any(first > last for first, last in ranges):
        raise ValueError(ranges)
    return ranges


def _by_epoch(ranges: Mapping[int, Sequence[Range]]) -> str:
    return json.dumps(
        [
            {"epoch": epoch, "seqs": [list(part) for part in parts]}
            for epoch, parts in ranges.items()
        ]
    )
