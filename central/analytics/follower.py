"""The live lane of one project, followed from the log as a consumer of its own.

Its position is kept in memory: after a start the log is read from its earliest record, and batches
that central received before the start are passed over.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from central.analytics.metrics import FlowMetrics
from central.analytics.seen import Seen
from central.messaging import (
    Log,
    LogRecord,
    OffsetOutOfRange,
    Position,
    ReadingRecord,
    Record,
    RecordCodec,
    RecordInvalid,
    TopicKind,
    topic,
)
from shared import logs
from shared.backoff import Backoff
from shared.clock import MICROSECONDS, Clock
from shared.errors import SpineError

PARTITION: Final = 0
READ_BYTES: Final = 512 * 1024
THREAD_BYTES: Final = 64 * 1024
WAIT_S: Final = 5.0
REMEMBERED: Final = 10_000
_log = logs.get("analytics")


@dataclass(frozen=True, slots=True)
class Source:
    """What is followed, how it is read, and by which clock."""

    log: Log
    codec: RecordCodec
    clock: Clock


class Follower:
    """Follows one project; `run` does so until cancelled, and waits while the log is away.

    What central received before `since_us` is passed over.

    A batch that comes again (the log is at least once) counts once, as long as it is among the last
    10,000 of its project.
    """

    def __init__(
        self,
        source: Source,
        project: str,
        metrics: FlowMetrics,
        since_us: int,
    ) -> None:
        self._from = source.log
        self._codec = source.codec
        self._clock = source.clock
        self._project = project
        self._topic = topic(project, TopicKind.READINGS)
        self._metrics = metrics
        self._since_us = since_us
        self._seen = Seen(REMEMBERED)
        self._position: Position | None = None
        self.problem: SpineError | None = None
        self.behind_s = 0.0

    async def run(self) -> None:
        """Follow until cancelled; an outage is logged once, and its end once."""
        backoff = Backoff(base_s=0.05, cap_s=5.0, floor_s=0.01)
        while True:
            try:
                await self.step()
            except SpineError as error:
                self._note_trouble(error)
                await asyncio.sleep(backoff.next_s())
            else:
                backoff.reset()
                self._note_well()

    async def step(self, wait_s: float = WAIT_S) -> int:
        """Read once, count what was read, and give the number of records; waits for the first."""
        log_id = await self._from.log_id(self._topic)
        records = await self._read(log_id, wait_s)
        if await self._from.log_id(self._topic) != log_id:
            return 0
        for record, batch in zip(records, await self._decode(records), strict=True):
            self._count(batch)
            self._position = Position(log_id, PARTITION, record.offset + 1)
        if not records:
            self._note_behind(0.0)
        return len(records)

    async def _read(self, log_id: str, wait_s: float) -> Sequence[Record]:
        position = self._position
        if position is not None and position.log_id == log_id:
            try:
                return await self._from.read(
                    self._topic, PARTITION, position.offset, READ_BYTES, wait_s
                )
            except OffsetOutOfRange as error:
                _log.warning("following the log from its earliest record", reason=str(error))
        elif position is not None:
            _log.warning("the log has a new life; following it from its start", topic=self._topic)
        return await self._from.read(self._topic, PARTITION, None, READ_BYTES, wait_s)

    async def _decode(self, records: Sequence[Record]) -> list[LogRecord | None]:
        if sum(len(record.value) for record in records) < THREAD_BYTES:
            taken = [self._take(record) for record in records]
        else:
            taken = await asyncio.to_thread(lambda: [self._take(record) for record in records])
        return [
            batch or await self._take_again(record)
            for batch, record in zip(taken, records, strict=True)
        ]

    def _take(self, record: Record) -> LogRecord | None:
        try:
            return self._codec.decode(record.value)
        except RecordInvalid:
            return None

    async def _take_again(self, record: Record) -> LogRecord | None:
        """Read what could not be read, now that the registry was asked; it is final then."""
        try:
            return await self._codec.decode_again(record.value)
        except RecordInvalid:
            return None

    def _count(self, batch: LogRecord | None) -> None:
        if not isinstance(batch, ReadingRecord):
            self._metrics.note_batch(self._project, "unreadable")
            return
        self._note_behind((self._clock.now_us() - batch.received_at) / MICROSECONDS)
        if batch.received_at < self._since_us:
            self._metrics.note_batch(self._project, "earlier")
        elif self._seen.note((batch.gateway_id, batch.epoch, batch.seq)):
            self._metrics.note_readings(self._project, batch.received_at, batch.columns)
        else:
            self._metrics.note_batch(self._project, "repeated")

    def _note_behind(self, seconds: float) -> None:
        self.behind_s = max(seconds, 0.0)
        self._metrics.note_behind(self._project, self.behind_s)

    def _note_trouble(self, error: SpineError) -> None:
        if self.problem is None:
            _log.warning("analytics waits", topic=self._topic, problem=str(error))
            self._metrics.note_outage(self._project)
        self.problem = error

    def _note_well(self) -> None:
        if self.problem is not None:
            _log.info("analytics follows again", topic=self._topic)
        self.problem = None
