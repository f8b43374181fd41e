"""The live lane of one project, followed from the log as a consumer of its own.

Its position is kept in memory: after a start the log is read from its earliest record, and batches
that central received before the start are passed over.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from central.analytics.metrics import FlowMetrics
from central.analytics.seen import Seen
from central.messaging import (
    PARTITION,
    Log,
    LogRecord,
    Position,
    ReadingRecord,
    RecordCodec,
    TopicKind,
    TopicReader,
    topic,
)
from shared import logs
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import SpineError

READ_BYTES: Final = 512 * 1024
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
        self._project = project
        self._topic = topic(project, TopicKind.READINGS)
        self._log = source.log
        self._reader = TopicReader(source.log, source.codec, self._topic)
        self._metrics = metrics
        self._since_us = since_us
        self._seen = Seen(REMEMBERED)
        self._position: Position | None = None
        self.problem: SpineError | None = None
        self.behind = 0

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
        read = await self._reader.read(self._position, READ_BYTES, wait_s)
        for taken in await self._reader.decode(read.records):
            self._count(taken.batch)
            self._position = read.after(taken.record)
        return len(read.records)

    async def measure(self) -> None:
        """Tell how many records wait; what it told before stays while the log is away."""
        with suppress(SpineError):
            end = await self._log.end(self._topic, PARTITION)
            self.behind = end.waiting(self._position)
            self._metrics.note_behind(self._project, self.behind)

    def _count(self, batch: LogRecord | None) -> None:
        if not isinstance(batch, ReadingRecord):
            self._metrics.note_batch(self._project, "unreadable")
            return
        if batch.received_at < self._since_us:
            self._metrics.note_batch(self._project, "earlier")
        elif self._seen.note((batch.gateway_id, batch.epoch, batch.seq)):
            self._metrics.note_readings(self._project, batch.received_at, batch.columns)
        else:
            self._metrics.note_batch(self._project, "repeated")

    def _note_trouble(self, error: SpineError) -> None:
        if self.problem is None:
            _log.warning("analytics waits", topic=self._topic, problem=str(error))
            self._metrics.note_outage(self._project)
        self.problem = error

    def _note_well(self) -> None:
        if self.problem is not None:
            _log.info("analytics follows again", topic=self._topic)
        self.problem = None
