"""The writer of one topic of one project: from the log into the database, exactly once.

Every transaction begins with a compare-and-set of the log position, so of two writers only one
writes; it skips what is settled, so any repetition and any order end the same.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from central.messaging.log import PARTITION, Log, LogAway, Position
from central.messaging.records import (
    DeadRecord,
    EventRecord,
    LogRecord,
    ReadingRecord,
    RecordCodec,
    RollupRecord,
)
from central.messaging.registry import RegistryAway, SchemaRefused
from central.messaging.topic_reader import Taken, TopicReader
from central.messaging.topics import TopicKind
from central.storage.database import (
    DatabaseAway,
    DatabaseRefused,
    DataRefused,
    Pool,
    TransactionClash,
    project_transaction,
)
from central.storage.positions import Fenced, load_position, move_position
from central.storage.quarantine import keep_dead_letter
from central.storage.settling import Outcome, settle
from central.storage.writer_metrics import WriterMetrics
from shared import logs
from shared.backoff import Backoff
from shared.clock import MICROSECONDS, Clock, SystemClock
from shared.model import Kind

MAX_READINGS: Final = 80_000
MAX_BACKFILLED: Final = 20_000
"""Readings of one transaction of backlog: while it lasts, the live ones of its gateway wait."""
READ_BYTES: Final = 1280 * 1024
"""About what one transaction of full batches takes."""
FULL_BYTES: Final = READ_BYTES // 2
"""Who was given so much has more to read."""
PARTS: Final = 16
WAIT_S: Final = 5.0
KEEP_RECORDS: Final = 2_000
_TROUBLE: Final = (
    TransactionClash,
    Fenced,
    LogAway,
    RegistryAway,
    SchemaRefused,
    DatabaseAway,
    DatabaseRefused,
)
"""What the writer waits out; with `SchemaRefused`, a newer release wrote what it cannot read."""
_log = logs.get("writer")


@dataclass(frozen=True, slots=True)
class _Part:
    """What one read gave, decoded, and where the next begins."""

    log_id: str
    taken: Sequence[Taken]
    following: Position | None
    is_full: bool


class TopicWriter:
    """Moves one topic's records into the project's schema; `run` does so until cancelled."""

    def __init__(
        self,
        pool: Pool,
        log: Log,
        codec: RecordCodec,
        project: str,
        topic: str,
        metrics: WriterMetrics | None = None,
    ) -> None:
        self._pool = pool
        self._from = log
        self._reader = TopicReader(log, codec, topic)
        self._project = project
        self._topic = topic
        is_backlog = topic.endswith(f".{TopicKind.BACKFILL}")
        self._most = MAX_BACKFILLED if is_backlog else MAX_READINGS
        self._metrics = metrics
        self._clock: Clock = SystemClock()
        self._position: Position | None = None
        self._trimmed: Position | None = None

    async def run(self) -> None:
        """Write until cancelled; an outage is logged once, waited out and its end logged."""
        backoff = Backoff(base_s=0.05, cap_s=5.0, floor_s=0.01)
        while True:
            try:
                await self._from.create_topic(self._topic)
                await self.load()
                while True:
                    await self.step()
                    if backoff.failures > 1:
                        _log.info("writing again", topic=self._topic)
                    backoff.reset()
            except _TROUBLE as error:
                delay_s = backoff.next_s()
                self._note_trouble(error, backoff.failures)
            except Exception:  # noqa: BLE001 -- a task root: one bad turn must not end the writer
                delay_s = backoff.next_s()
                _log.error("the writer failed; tried again", topic=self._topic, exc_info=True)
            await asyncio.sleep(delay_s)

    async def load(self) -> None:
        """Read the stored position: where the last committed transaction ended."""
        self._position = await load_position(self._pool, self._project, self._topic, PARTITION)

    async def step(self, wait_s: float = WAIT_S) -> int:
        """Write what there is, up to 16 parts, and give the number of records.

        Waits for the first. While the database works on one part the next is read and decoded.
        """
        part, count = await self._take(self._position, wait_s), 0
        for _ in range(PARTS):
            ahead = asyncio.create_task(self._take_more(part))
            try:
                for portion in _portions(part.taken, self._most):
                    await self._write(part.log_id, portion)
                count += len(part.taken)
                part = await ahead
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            if not part.taken:
                break
        await self._trim()
        return count

    async def _take(self, position: Position | None, wait_s: float) -> _Part:
        read = await self._reader.read(position, READ_BYTES, wait_s)
        following = read.after(read.records[-1]) if read.records else position
        size = sum(len(record.value) for record in read.records)
        taken = await self._reader.decode(read.records)
        return _Part(read.log_id, taken, following, is_full=size >= FULL_BYTES)

    async def _take_more(self, part: _Part) -> _Part:
        """Take what follows a part where there is more for sure."""
        if part.is_full:
            return await self._take(part.following, wait_s=0.0)
        return _Part(part.log_id, (), part.following, is_full=False)

    async def _write(self, log_id: str, taken: Sequence[Taken]) -> None:
        """Write records in one transaction; what the database refuses is found by halving."""
        try:
            await self._commit(log_id, taken)
        except DataRefused as error:
            if len(taken) == 1:
                await self._put_aside(log_id, taken[0], str(error))
                return
            middle = len(taken) // 2
            await self._write(log_id, taken[:middle])
            await self._write(log_id, taken[middle:])

    async def _commit(self, log_id: str, taken: Sequence[Taken]) -> None:
        started = self._clock.monotonic_s()
        new = Position(log_id, PARTITION, taken[-1].record.offset + 1)
        batches = [item.batch for item in taken if item.batch is not None]
        async with project_transaction(self._pool, self._project) as connection:
            await move_position(connection, self._topic, self._position, new)
            for item in taken:
                if item.batch is None:
                    await keep_dead_letter(connection, log_id, item.record, item.problem)
            outcome = await settle(connection, batches) if batches else Outcome()
        self._position = new
        self._note_written(batches, outcome, self._clock.monotonic_s() - started)

    async def _put_aside(self, log_id: str, taken: Taken, detail: str) -> None:
        """Keep a refused batch in quarantine; where that is refused too, its record as it is."""
        if taken.batch is None:
            raise DatabaseRefused(f"a dead letter itself was refused: {detail}")
        if not isinstance(taken.batch, DeadRecord):
            try:
                await self._quarantine(log_id, taken, taken.batch, detail)
            except DataRefused as error:
                detail = str(error)
            else:
                return
        _log.error("the database refused a quarantined batch", topic=self._topic, detail=detail)
        await self._commit(log_id, [Taken(taken.record, None, detail)])

    async def _quarantine(
        self,
        log_id: str,
        taken: Taken,
        batch: ReadingRecord | EventRecord | RollupRecord,
        detail: str,
    ) -> None:
        await self._commit(log_id, [Taken(taken.record, _refused(batch, taken, detail))])
        _log.warning(
            "the database refused a batch; it is in quarantine",
            project=self._project,
            gateway_id=batch.gateway_id,
            epoch=batch.epoch,
            seq=batch.seq,
            detail=detail,
        )

    async def _trim(self) -> None:
        position = self._position
        if position is not None and position.waiting(self._trimmed) > 2 * KEEP_RECORDS:
            below = replace(position, offset=position.offset - KEEP_RECORDS)
            await self._from.trim(self._topic, PARTITION, below.offset)
            self._trimmed = below

    def _note_written(self, batches: list[LogRecord], outcome: Outcome, seconds: float) -> None:
        if self._metrics is None:
            return
        self._metrics.note_written(self._project, outcome, seconds)
        if batches:
            age_us = self._clock.now_us() - max(batch.received_at for batch in batches)
            self._metrics.note_lag(self._project, self._topic, age_us / MICROSECONDS)

    def _note_trouble(self, error: Exception, failures: int) -> None:
        """Log an outage once; a clash or a fence once is everyday life."""
        if failures == (2 if isinstance(error, TransactionClash | Fenced) else 1):
            _log.warning("the writer waits", topic=self._topic, problem=str(error))
        if self._metrics is not None and failures == 1:
            self._metrics.note_outage(self._project)


def _portions(taken: Sequence[Taken], most: int) -> Iterator[Sequence[Taken]]:
    """Cut records into transactions of at most so many readings (one record may have more)."""
    start = count = 0
    for at, item in enumerate(taken):
        if at > start and count + item.readings > most:
            yield taken[start:at]
            start, count = at, 0
        count += item.readings
    if start < len(taken):
        yield taken[start:]


def _refused(
    batch: ReadingRecord | EventRecord | RollupRecord, taken: Taken, detail: str
) -> DeadRecord:
    kind, count = _told(batch)
    return DeadRecord(
        batch.gateway_id,
        batch.epoch,
        batch.seq,
        batch.received_at,
        count,
        kind,
        "database_refused",
        detail,
        b"",
        taken.record.value,
    )


def _told(batch: ReadingRecord | EventRecord | RollupRecord) -> tuple[Kind, int]:
    if isinstance(batch, ReadingRecord):
        return Kind.READINGS, len(batch.columns)
    if isinstance(batch, RollupRecord):
        return Kind.ROLLUPS, len(batch.rollups)
    return Kind.EVENTS, batch.count
