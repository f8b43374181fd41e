"""What one transaction does with records of the log: rows, events, quarantine, and settling them.

The caller has moved the log position in the same transaction before, and commits after.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgpack
import numpy as np

from central.messaging.records import (
    DeadRecord,
    EventRecord,
    LogRecord,
    ReadingRecord,
    RollupRecord,
)
from central.storage.collapse import Rows, collapse
from central.storage.database import Connection, DataRefused
from central.storage.dirty import mark_dirty
from central.storage.gaps import Gap, keep_gap
from central.storage.latest import keep_latest
from central.storage.quarantine import keep_quarantined, storable
from central.storage.readings import write_readings
from central.storage.rollups import write_rollups
from central.storage.settled import EpochKey, Settling, add_settled, lock_settled
from shared.clock import EARLIEST_US, LATEST_US, to_datetime
from shared.model import Kind

R = TypeVar("R", ReadingRecord, EventRecord, DeadRecord, RollupRecord)


@dataclass(slots=True)
class Outcome:
    """What a transaction did, in batches and readings."""

    batches: int = 0
    repeated: int = 0
    delivered: int = 0
    collapsed: int = 0
    quarantined: int = 0
    gaps: int = 0
    rollups: int = 0


@dataclass(slots=True)
class _Work:
    """One transaction under way."""

    connection: Connection
    added: defaultdict[EpochKey, Settling] = field(default_factory=lambda: defaultdict(Settling))
    outcome: Outcome = field(default_factory=Outcome)

    def settle(self, record: LogRecord) -> Settling:
        settling = self.added[record.gateway_id, record.epoch]
        settling.seqs.append((record.seq, record.seq))
        self.outcome.batches += 1
        return settling


async def settle(connection: Connection, records: Sequence[LogRecord]) -> Outcome:
    """Write what is new in these records and settle it; what is settled already is skipped."""
    work = _Work(connection)
    known = await lock_settled(connection, _epochs(records))
    fresh = _first_of_each(records, known)
    work.outcome.repeated = len(records) - len(fresh)
    await _settle_readings(work, _of(ReadingRecord, fresh))
    await _settle_rollups(work, _of(RollupRecord, fresh))
    await _settle_events(work, _of(EventRecord, fresh))
    await _settle_dead(work, _of(DeadRecord, fresh))
    await add_settled(connection, work.added)
    return work.outcome


def _of(kind: type[R], records: Iterable[LogRecord]) -> list[R]:
    return [record for record in records if isinstance(record, kind)]


def _epochs(records: Iterable[LogRecord]) -> Mapping[EpochKey, list[int]]:
    """Collect the seqs asked for, and the epochs that gaps void, to be locked together."""
    wanted: defaultdict[EpochKey, list[int]] = defaultdict(list)
    for record in records:
        wanted[record.gateway_id, record.epoch].append(record.seq)
        if isinstance(record, EventRecord):
            for gap in filter(None, map(Gap.of, record.events)):
                for epoch in gap.voided:
                    wanted.setdefault((record.gateway_id, epoch), [])
    return wanted


def _first_of_each(
    records: Iterable[LogRecord], known: set[tuple[int, int, int]]
) -> list[LogRecord]:
    seen = set(known)
    fresh: list[LogRecord] = []
    for record in records:
        name = (record.gateway_id, record.epoch, record.seq)
        if name not in seen:
            seen.add(name)
            fresh.append(record)
    return fresh


async def _settle_readings(work: _Work, records: list[ReadingRecord]) -> None:
    if not records:
        return
    rows = collapse([record.columns for record in records])
    _refuse_impossible_times(rows)
    delivered = np.zeros(len(records), np.int64)
    if len(rows):
        delivered = await write_readings(work.connection, rows, len(records))
        received_at = np.array([record.received_at for record in records], np.int64)
        await keep_latest(work.connection, rows, received_at)
        await mark_dirty(work.connection, rows)
    for record, count in zip(records, delivered.tolist(), strict=True):
        settling = work.settle(record)
        settling.delivered += count
        settling.collapsed += len(record.columns) - count
        work.outcome.delivered += count
        work.outcome.collapsed += len(record.columns) - count


async def _settle_rollups(work: _Work, records: list[RollupRecord]) -> None:
    if not records:
        return
    received_at = [record.received_at for record in records]
    await write_rollups(work.connection, [record.rollups for record in records], received_at)
    for record in records:
        work.settle(record)
        work.outcome.rollups += len(record.rollups)


def _refuse_impossible_times(rows: Rows) -> None:
    """Refuse what could be written and never be read again: no datetime tells it."""
    times = rows.columns.observed_at
    if len(times) and (times.min() < EARLIEST_US or times.max() > LATEST_US):
        raise DataRefused(
            f"observed_at {times.min()} to {times.max()} µs: outside the years 1 to 9999"
        )


async def _settle_events(work: _Work, records: list[EventRecord]) -> None:
    for record in records:
        work.settle(record)
        for ordinal, event in enumerate(record.events):
            gap = Gap.of(event)
            if gap is None:
                await _keep_other(work.connection, record, ordinal)
                continue
            await keep_gap(
                work.connection,
                (record.gateway_id, record.epoch, record.seq),
                to_datetime(record.received_at),
                gap,
            )
            work.outcome.gaps += 1
            for epoch, ranges in gap.voided.items():
                work.added[record.gateway_id, epoch].seqs += ranges


async def _keep_other(connection: Connection, record: EventRecord, ordinal: int) -> None:
    event = record.events[ordinal]
    await connection.execute(
        """
        INSERT INTO events_other (gateway_id, epoch, seq, ordinal, event, body, received_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        record.gateway_id,
        record.epoch,
        record.seq,
        ordinal,
        storable(str(event.get("event", ""))[:200]),
        msgpack.packb(event, use_bin_type=True),
        to_datetime(record.received_at),
    )


async def _settle_dead(work: _Work, records: list[DeadRecord]) -> None:
    if not records:
        return
    await keep_quarantined(work.connection, records)
    for record in records:
        # The ledger counts readings; events and rollups that were refused are none.
        count = record.count if record.kind == Kind.READINGS else 0
        work.settle(record).quarantined += count
        work.outcome.quarantined += count
