"""The log in Kafka: a topic of one partition is a topic, its id is the log id.

Records are written and read by topic id, so a topic that was wiped or made anew is never mistaken
for the one before: the broker refuses the old id, and what it is now is looked up again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from central.messaging import kafka_requests as requests
from central.messaging import kafka_topics as topics
from central.messaging.kafka_brokers import PATIENCE_S, Brokers, KafkaPlace, Use, patience
from central.messaging.kafka_records import behind, pack, unpack
from central.messaging.log import (
    PARTITION,
    LogAway,
    OffsetOutOfRange,
    Position,
    Record,
    RecordTooLarge,
)
from shared.errors import SpineError

__all__ = ["KafkaLog", "KafkaPlace", "open_kafka_log"]

MAX_WAITING: Final = 1_000
MAX_TOGETHER: Final = 64
TOGETHER_BYTES: Final = 256 * 1024
"""Half of what the writer reads at once: what a reader does not take of a batch is sent again."""
THREAD_BYTES: Final = 1024 * 1024
LONGEST_WAIT_S: Final = 5.0
_CLOSED: Final = "the log was closed"

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Waiting:
    key: bytes
    value: bytes
    written: asyncio.Future[Position]


@dataclass(slots=True, eq=False)
class _Queue:
    """The appends of one topic that wait, and the task that writes them while there are any."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    writing: asyncio.Task[None] | None = None


class KafkaLog:
    """`central.messaging.log.Log` on Kafka; `open_kafka_log` gives one and closes it."""

    def __init__(self, place: KafkaPlace) -> None:
        self._brokers = Brokers(place)
        self._replicas = place.replicas
        self._queues: dict[str, _Queue] = {}
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._is_closed = False

    @property
    def readers(self) -> int:
        """Tell how many reads have a question under way, each on a connection of its own."""
        return self._brokers.used(Use.READING)

    async def append(self, topic: str, key: bytes, value: bytes) -> Position:
        """Append one record; waits where 1,000 appends wait already.

        Appends of one topic that wait for each other are written in one batch, and one batch at a
        time. Raises `LogAway` after 10 s at the latest, and then, as after a cancellation, the
        record may have been written; `RecordTooLarge` for one that no repetition helps.
        """
        queue = self._queues.setdefault(topic, _Queue())
        async with self._room:
            if self._is_closed:
                raise LogAway(_CLOSED)
            mine = _Waiting(key, value, asyncio.get_running_loop().create_future())
            queue.waiting.append(mine)
            if queue.writing is None or queue.writing.done():
                queue.writing = asyncio.create_task(self._write_all(topic, queue))
            return await mine.written

    async def read(
        self, topic: str, partition: int, offset: int | None, limit_bytes: int, wait_s: float
    ) -> Sequence[Record]:
        """Read records in order; the broker answers as soon as there is one.

        Keeps nothing between two calls, so a cancelled one loses nothing. While it waits it holds
        a connection of its own.
        """
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            records, following = await self._read(
                topic, partition, offset, limit_bytes, min(left_s, LONGEST_WAIT_S)
            )
            if records or (following is None and left_s <= LONGEST_WAIT_S):
                return records
            offset = offset if following is None else following

    async def log_id(self, topic: str) -> str:
        """Tell the life of a topic, as a broker knows it now: it is asked every time."""
        with patience():
            async with asyncio.timeout(PATIENCE_S):
                return (await self._brokers.look_up(topic)).topic_id.hex

    async def end(self, topic: str, partition: int) -> Position:
        """Tell where the next record will go."""

        async def look(found: requests.Topic) -> Position:
            question = requests.latest(found, partition)
            offset = await self._brokers.ask_leader(found, partition, question)
            return Position(found.topic_id.hex, partition, offset)

        return await self._brokers.insist(topic, look)

    async def create_topic(self, topic: str) -> None:
        """Make a topic; one that exists is left as it is."""
        await topics.create_topic(self._brokers, topic, self._replicas)

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic and its records."""
        await topics.delete_topic(self._brokers, topic)

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """Let the records below an offset go; their disk is given back segment by segment."""
        await topics.trim(self._brokers, topic, partition, below)

    async def close(self) -> None:
        """Stop: who still waits for an append gets `LogAway`."""
        self._is_closed = True
        writing = [queue.writing for queue in self._queues.values() if queue.writing is not None]
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        for queue in self._queues.values():
            _fail(queue.waiting, LogAway(_CLOSED))
        await self._brokers.close()

    async def _write_all(self, topic: str, queue: _Queue) -> None:
        while together := _take(queue.waiting):
            try:
                await self._write_together(topic, together)
            except SpineError as error:
                # Those behind them would each wait as long for the same answer.
                _fail((*together, *queue.waiting), error)
            except asyncio.CancelledError:
                _fail(together, LogAway(_CLOSED))
                raise
            except Exception as error:  # noqa: BLE001 -- a task root: raised by the appends
                _fail(together, error)

    async def _write_together(self, topic: str, together: list[_Waiting]) -> None:
        """Write one batch; where that is more than the topic takes, each record by itself."""
        try:
            _tell(together, await self._write(topic, together))
        except RecordTooLarge as error:
            if len(together) == 1:
                _fail(together, error)
                return
            for item in together:
                await self._write_together(topic, [item])

    async def _write(self, topic: str, together: list[_Waiting]) -> Position:
        items = [(item.key, item.value) for item in together]
        batch = await _aside(sum(len(value) for _, value in items), lambda: pack(items))

        async def produce(found: requests.Topic) -> Position:
            question = requests.produce(found, PARTITION, batch)
            first = await self._brokers.ask_leader(found, PARTITION, question)
            return Position(found.topic_id.hex, PARTITION, first)

        return await self._brokers.insist(topic, produce)

    async def _read(
        self, topic: str, partition: int, offset: int | None, limit_bytes: int, wait_s: float
    ) -> tuple[list[Record], int | None]:
        """Read once; behind batches without a record for us, tell where to go on."""

        async def fetch(found: requests.Topic) -> tuple[int, bytes]:
            start = offset
            if start is None:
                question = requests.earliest(found, partition)
                start = await self._brokers.ask_leader(found, partition, question)
            wait_ms = int(wait_s * 1_000)
            wanted = requests.fetch(found, partition, start, limit_bytes, wait_ms)
            packed = await self._brokers.ask_leader(found, partition, wanted, Use.READING, wait_s)
            return start, packed

        try:
            start, packed = await self._brokers.insist(topic, fetch, wait_s)
        except OffsetOutOfRange as error:
            if offset is None:
                raise LogAway(f"{topic}: trimmed while its start was looked for") from error
            raise
        records = await _aside(
            len(packed), lambda: unpack(topic, partition, packed, start, limit_bytes)
        )
        return records, None if records else behind(packed)


@asynccontextmanager
async def open_kafka_log(place: KafkaPlace) -> AsyncGenerator[KafkaLog]:
    """Give a log; it connects when it is first used, so brokers that are away are no error here.

    Raises `SettingsError` for a place that cannot be.
    """
    log = KafkaLog(place)
    try:
        yield log
    finally:
        await log.close()


async def _aside(size: int, work: Callable[[], Result]) -> Result:
    """Do work on many bytes in a thread, so that the others go on."""
    return await asyncio.to_thread(work) if size >= THREAD_BYTES else work()


def _take(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Take what fits into one batch, at least one; given up ones are left out."""
    together: list[_Waiting] = []
    size = 0
    while waiting and len(together) < MAX_TOGETHER:
        if waiting[0].written.done():
            waiting.popleft()
            continue
        size += len(waiting[0].value)
        if together and size > TOGETHER_BYTES:
            break
        together.append(waiting.popleft())
    return together


def _tell(together: Sequence[_Waiting], first: Position) -> None:
    for at, item in enumerate(together):
        if not item.written.done():
            item.written.set_result(Position(first.log_id, first.partition, first.offset + at))


def _fail(items: Iterable[_Waiting], error: Exception) -> None:
    for item in items:
        if not item.written.done():
            # Each waiter raises an error of its own: one object must not be raised twice.
            own = type(error)(str(error)) if isinstance(error, SpineError) else error
            item.written.set_exception(own)
