"""The log of the local profile: two tables in Postgres, one partition a topic.

Offsets are given out under the topic's row lock, which is held until the commit, so a reader never
passes an offset that is still uncommitted. Appends that wait for that lock are written together by
the one that gets it: one transaction, one disk flush.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

from central.messaging.log import (
    PARTITION,
    LogAway,
    OffsetOutOfRange,
    Position,
    Record,
    TopicUnknown,
)
from central.storage.database import DatabaseAway, Pool, TransactionClash

MAX_WAITING: Final = 1_000
MAX_TOGETHER: Final = 64
READ_ROWS: Final = 500
POLL_S: Final = 0.2

_APPEND: Final = """
WITH given AS (
    UPDATE log.topics SET next_offset = next_offset + cardinality($2::bytea[])
    WHERE topic = $1
    RETURNING topic_id, log_id, next_offset - cardinality($2::bytea[]) AS first
), written AS (
    INSERT INTO log.records (topic_id, record_offset, record_key, record_value)
    SELECT given.topic_id, given.first + items.at - 1, items.key, items.value
    FROM given, unnest($2::bytea[], $3::bytea[]) WITH ORDINALITY AS items (key, value, at)
)
SELECT log_id, first FROM given
"""
_READ: Final = """
SELECT record_offset, record_key, record_value
FROM (
    SELECT
        record_offset, record_key, record_value,
        sum(octet_length(record_value)) OVER (ORDER BY record_offset) AS until_here,
        row_number() OVER (ORDER BY record_offset) AS at
    FROM (
        SELECT record_offset, record_key, record_value
        FROM log.records
        WHERE topic_id = $1 AND record_offset >= $2
        ORDER BY record_offset
        LIMIT $4
    ) AS next_rows
) AS sized
WHERE at = 1 OR until_here <= $3
ORDER BY record_offset
"""


@dataclass(slots=True, eq=False)
class _Waiting:
    key: bytes
    value: bytes
    written: Position | None = None
    failure: LogAway | None = None
    is_given_up: bool = False


@dataclass(slots=True, eq=False)
class _Line:
    """The appends of one topic that wait, the lock of the one that writes them, who reads it."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: set[asyncio.Event] = field(default_factory=set)


class PostgresLog:
    """`central.messaging.log.Log` on a pool of connections; building it does no I/O."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lines: dict[str, _Line] = {}
        self._room = asyncio.Semaphore(MAX_WAITING)

    async def append(self, topic: str, key: bytes, value: bytes) -> Position:
        """Append one record; waits where 1,000 appends wait already."""
        line = self._line(topic)
        mine = _Waiting(key, value)
        async with self._room:
            line.waiting.append(mine)
            try:
                async with line.lock:
                    while mine.written is None and mine.failure is None:
                        await self._write(topic, line)
            except BaseException:
                mine.is_given_up = True
                raise
        if mine.failure is not None:
            # Each waiter raises an error of its own: one object must not be raised twice.
            raise type(mine.failure)(str(mine.failure)) from mine.failure
        return cast(Position, mine.written)

    async def read(
        self, topic: str, partition: int, offset: int | None, limit_bytes: int, wait_s: float
    ) -> Sequence[Record]:
        """Read records in order; looks again on an append here, and every 200 ms for others."""
        readers, news = self._line(topic).readers, asyncio.Event()
        readers.add(news)  # before the first look, so that no append between the two is missed
        try:
            records = await self._read(topic, offset, limit_bytes)
            if records or wait_s <= 0 or not await self._wait(topic, offset, news, wait_s):
                return records
        finally:
            readers.discard(news)
        return await self._read(topic, offset, limit_bytes)

    async def log_id(self, topic: str) -> str:
        """Tell the life of a topic."""
        with _log_errors():
            found = await self._pool.fetchval(
                "SELECT log_id FROM log.topics WHERE topic = $1", topic
            )
        if found is None:
            raise _unknown(topic)
        return str(found)

    async def end(self, topic: str, partition: int) -> Position:
        """Tell where the next record will go."""
        async with self._transaction(is_frozen=True) as connection:
            row = await _topic_row(connection, topic)
        return Position(row["log_id"], partition, row["next_offset"])

    async def create_topic(self, topic: str) -> None:
        """Make a topic; one that exists is left as it is."""
        async with self._transaction() as connection:
            await connection.execute(
                "INSERT INTO log.topics (topic, log_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                topic,
                uuid4().hex,
            )

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic and its records."""
        async with self._transaction() as connection:
            topic_id = await connection.fetchval(
                "DELETE FROM log.topics WHERE topic = $1 RETURNING topic_id", topic
            )
            await connection.execute("DELETE FROM log.records WHERE topic_id = $1", topic_id)

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """Delete the records below an offset."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(
                """
                UPDATE log.topics SET first_offset = least($2, next_offset)
                WHERE topic = $1 AND first_offset < least($2, next_offset)
                RETURNING topic_id, first_offset
                """,
                topic,
                below,
            )
            if row is not None:
                await connection.execute(
                    "DELETE FROM log.records WHERE topic_id = $1 AND record_offset < $2",
                    row["topic_id"],
                    row["first_offset"],
                )

    async def wipe(self) -> None:
        """Empty every topic and give it a new life, as a lost disk would."""
        async with self._transaction() as connection:
            await connection.execute("LOCK TABLE log.topics IN EXCLUSIVE MODE")
            await connection.execute("DELETE FROM log.records")
            await connection.execute(
                """
                UPDATE log.topics
                SET log_id = replace(gen_random_uuid()::text, '-', ''),
                    first_offset = 0, next_offset = 0
                """
            )

    def _line(self, topic: str) -> _Line:
        return self._lines.setdefault(topic, _Line())

    async def _write(self, topic: str, line: _Line) -> None:
        together = _take(line.waiting)
        try:
            given = await self._append(topic, together)
        except LogAway as error:
            for item in together:
                item.failure = error
            return
        except BaseException:
            # Cancelled: the others' appends are written by the next in line (perhaps again).
            line.waiting.extendleft(reversed(together))
            raise
        for at, item in enumerate(together):
            item.written = Position(given["log_id"], PARTITION, given["first"] + at)
        for news in line.readers:
            news.set()

    async def _append(self, topic: str, together: list[_Waiting]) -> Any:
        async with self._transaction() as connection:
            given = await connection.fetchrow(
                _APPEND, topic, [item.key for item in together], [item.value for item in together]
            )
        if given is None:
            raise _unknown(topic)
        return given

    async def _wait(
        self, topic: str, offset: int | None, news: asyncio.Event, wait_s: float
    ) -> bool:
        """Wait until the topic has something to read (or changed its life), or for `wait_s`."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(left, POLL_S)):
                    await news.wait()
            except TimeoutError:
                if await self._has_news(topic, offset):
                    return True
            else:
                return True
        return False

    async def _has_news(self, topic: str, offset: int | None) -> bool:
        with _log_errors():
            found = await self._pool.fetchval(
                "SELECT next_offset <> coalesce($2, first_offset) FROM log.topics WHERE topic = $1",
                topic,
                offset,
            )
        return found is not False

    async def _read(self, topic: str, offset: int | None, limit_bytes: int) -> list[Record]:
        async with self._transaction(is_frozen=True) as connection:
            row = await _topic_row(connection, topic)
            start = row["first_offset"] if offset is None else offset
            if not row["first_offset"] <= start <= row["next_offset"]:
                raise OffsetOutOfRange(
                    f"{topic}: offset {start} is outside {row['first_offset']}.."
                    f"{row['next_offset']}"
                )
            rows = await connection.fetch(_READ, row["topic_id"], start, limit_bytes, READ_ROWS)
        return [Record(topic, PARTITION, *found) for found in rows]

    @asynccontextmanager
    async def _transaction(self, *, is_frozen: bool = False) -> AsyncGenerator[Any]:
        with _log_errors():
            async with self._pool.transaction(is_frozen=is_frozen) as connection:
                yield connection


async def _topic_row(connection: Any, topic: str) -> Any:
    row = await connection.fetchrow(
        "SELECT topic_id, log_id, first_offset, next_offset FROM log.topics WHERE topic = $1",
        topic,
    )
    if row is None:
        raise _unknown(topic)
    return row


def _unknown(topic: str) -> TopicUnknown:
    return TopicUnknown(f"the log has no topic {topic}; create_topics makes it")


def _take(waiting: deque[_Waiting]) -> list[_Waiting]:
    taken: list[_Waiting] = []
    while waiting and len(taken) < MAX_TOGETHER:
        item = waiting.popleft()
        if not item.is_given_up:
            taken.append(item)
    return taken


@contextmanager
def _log_errors() -> Iterator[None]:
    try:
        yield
    except (DatabaseAway, TransactionClash) as error:
        raise LogAway(f"the log's database: {error}") from error
