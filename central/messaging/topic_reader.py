"""Reading a topic for a consumer that keeps its own position: one life at a time, decoded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from central.messaging.log import PARTITION, Log, OffsetOutOfRange, Position, Record
from central.messaging.records import (
    LogRecord,
    ReadingRecord,
    RecordCodec,
    RecordInvalid,
    RollupRecord,
)
from shared import logs

THREAD_BYTES: Final = 64 * 1024
_log = logs.get("log")


@dataclass(frozen=True, slots=True)
class Taken:
    """A record of the log with what is in it; None if it cannot be read, and why."""

    record: Record
    batch: LogRecord | None
    problem: str = ""

    @property
    def readings(self) -> int:
        """Count the readings, or rollups, in it."""
        if isinstance(self.batch, RollupRecord):
            return len(self.batch.rollups)
        return len(self.batch.columns) if isinstance(self.batch, ReadingRecord) else 0


@dataclass(frozen=True, slots=True)
class Portion:
    """Records that follow a position, all of the life `log_id`."""

    log_id: str
    records: Sequence[Record]

    def after(self, record: Record) -> Position:
        """Give the position behind one of them."""
        return Position(self.log_id, record.partition, record.offset + 1)


class TopicReader:
    """Reads one topic from wherever its consumer is."""

    def __init__(self, log: Log, codec: RecordCodec, topic: str) -> None:
        self._from = log
        self._codec = codec
        self._topic = topic

    async def read(self, position: Position | None, limit_bytes: int, wait_s: float) -> Portion:
        """Read what follows a position, from the earliest record where it means nothing any more.

        Waits for the first record up to `wait_s`. The life of the topic is asked before and after:
        where it changed, nothing was read. Raises `LogAway`.
        """
        log_id = await self._from.log_id(self._topic)
        offset = self._offset(position, log_id)
        try:
            records = await self._read(offset, limit_bytes, wait_s)
        except OffsetOutOfRange as error:
            _log.warning("reading the log from its earliest record", reason=str(error))
            records = await self._read(None, limit_bytes, wait_s)
        if records and await self._from.log_id(self._topic) != log_id:
            records = ()
        return Portion(log_id, records)

    async def decode(self, records: Sequence[Record]) -> list[Taken]:
        """Read what is in records; what cannot be read is asked of the registry first.

        Raises `RegistryAway`, and `SchemaRefused` where a newer release wrote it.
        """
        if sum(len(record.value) for record in records) < THREAD_BYTES:
            taken = [self._take(record) for record in records]
        else:
            taken = await asyncio.to_thread(lambda: [self._take(record) for record in records])
        return [item if item.batch else await self._take_again(item.record) for item in taken]

    def _offset(self, position: Position | None, log_id: str) -> int | None:
        if position is None:
            return None
        if position.log_id == log_id:
            return position.offset
        _log.warning("the log has a new life; reading from its start", topic=self._topic)
        return None

    async def _read(self, offset: int | None, limit_bytes: int, wait_s: float) -> Sequence[Record]:
        return await self._from.read(self._topic, PARTITION, offset, limit_bytes, wait_s)

    def _take(self, record: Record) -> Taken:
        try:
            return Taken(record, self._codec.decode(record.value))
        except RecordInvalid as error:
            return Taken(record, None, str(error))

    async def _take_again(self, record: Record) -> Taken:
        try:
            return Taken(record, await self._codec.decode_again(record.value))
        except RecordInvalid as error:
            return Taken(record, None, str(error))
