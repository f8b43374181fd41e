"""What the tests of the writer stand on: a project with its log, driven step by step."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from central.messaging import (
    LogRecord,
    PostgresLog,
    ReadingRecord,
    RecordCodec,
    create_topics,
    topic,
)
from central.storage.database import project_transaction
from central.storage.settled import SettledRow, read_settled
from central.storage.topic_writer import TopicWriter
from shared.columns import Columns
from tests.servers.postgres import Database

T0 = 1_700_000_000_000_000
NAN = float("nan")
Row = tuple[int, int, float, int]


@dataclass
class Rig:
    """One project with its log and a writer per topic, driven step by step."""

    database: Database
    log: PostgresLog
    codec: RecordCodec = field(default_factory=RecordCodec)
    seqs: Iterator[int] = field(default_factory=count)

    def writer(self, kind: str = "readings") -> TopicWriter:
        return TopicWriter(self.database.service, self.log, self.codec, "demo", topic("demo", kind))

    async def publish(self, record: LogRecord, kind: str = "readings") -> None:
        await self.log.append(topic("demo", kind), b"1", self.codec.encode(record))

    async def publish_rows(
        self, rows: list[Row], *, epoch: int = 7, seq: int | None = None, gateway_id: int = 1
    ) -> ReadingRecord:
        record = readings(
            rows, epoch=epoch, seq=next(self.seqs) if seq is None else seq, gateway_id=gateway_id
        )
        await self.publish(record)
        return record

    async def write(self, kind: str = "readings") -> None:
        writer = self.writer(kind)
        await writer.load()
        while await writer.step(wait_s=0):
            pass

    async def settled(self, epoch: int = 7) -> SettledRow:
        (row,) = await read_settled(self.database.service, "demo", 1, [epoch])
        return row

    async def stored(self) -> list[Row]:
        async with project_transaction(self.database.service, "demo") as connection:
            found = await connection.fetch(
                "SELECT point_id, (extract(epoch FROM observed_at) * 1000000)::int8, value, quality"
                " FROM readings ORDER BY point_id, observed_at"
            )
        return [tuple(row) for row in found]

    async def fetch(self, query: str) -> list[tuple[object, ...]]:
        async with project_transaction(self.database.service, "demo") as connection:
            return [tuple(row) for row in await connection.fetch(query)]


def readings(
    rows: list[Row],
    *,
    epoch: int = 7,
    seq: int = 0,
    gateway_id: int = 1,
    texts: dict[int, str] | None = None,
) -> ReadingRecord:
    points, times, values, qualities = zip(*rows, strict=True)
    columns = Columns.of(points, times, values, qualities, texts)
    return ReadingRecord(gateway_id, epoch, seq, T0 + 5_000_000, columns)


async def become(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the answer is not empty; the caller sets the deadline."""
    while not await ask():  # noqa: ASYNC110 -- the condition is in another process
        await asyncio.sleep(0.01)


async def open_rig(database: Database) -> Rig:
    """Make the project `demo` in a database, with its topics."""
    await database.add_project("demo")
    log = PostgresLog(database.service)
    await create_topics(log, "demo")
    return Rig(database, log)
