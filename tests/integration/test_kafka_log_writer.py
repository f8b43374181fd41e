"""From Kafka into the database while the broker dies, forgets, and two writers fight: exactly once.

The database is the embedded Postgres; ingress is played by tasks that append until it works, and
again at random, as gateways do that were not told.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from central.messaging import LogAway, ReadingRecord, RecordCodec, create_topics, topic
from central.messaging.kafka_log import KafkaLog, KafkaPlace, open_kafka_log
from central.storage.database import project_transaction
from central.storage.settled import read_settled
from central.storage.topic_writer import TopicWriter
from deploy.central.native.launcher import Launcher
from shared.columns import Columns
from tests.servers.postgres import Database
from tests.servers.stack import started, temporary_stack

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

TOPIC = topic("demo", "readings")
DEADLINE_S = 120
T0 = 1_700_000_000_000_000
BATCHES, READINGS = 40, 25


@dataclass(frozen=True)
class Rig:
    """A broker to be killed, and a project."""

    launcher: Launcher
    place: KafkaPlace
    database: Database

    async def restart(self, *, wiped: bool = False) -> None:
        await asyncio.to_thread(self.launcher.kill, "kafka")
        if wiped:
            await asyncio.to_thread(self.launcher.wipe, "kafka")
        await asyncio.to_thread(self.launcher.start, "kafka")

    @asynccontextmanager
    async def writer(self) -> AsyncGenerator[None]:
        """Run a writer with a log of its own, as another process would."""
        async with open_kafka_log(self.place) as log:
            writer = TopicWriter(self.database.service, log, RecordCodec(), "demo", TOPIC)
            task = asyncio.create_task(writer.run())
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    @asynccontextmanager
    async def publishing(self, halfway: asyncio.Event) -> AsyncGenerator[None]:
        """Let three gateways send, until all they sent is settled."""
        async with (
            asyncio.timeout(DEADLINE_S),
            open_kafka_log(self.place) as log,
            asyncio.TaskGroup() as group,
        ):
            for gateway_id in (1, 2, 3):
                group.create_task(publish_all(self, log, gateway_id, halfway))
            yield

    async def settled(self) -> dict[int, tuple[tuple[int, int], ...]]:
        rows = await read_settled(self.database.service, "demo")
        return {row.gateway_id: row.seqs for row in rows}

    async def stored(self) -> list[tuple[int, int, float]]:
        async with project_transaction(self.database.service, "demo") as connection:
            found = await connection.fetch(
                "SELECT point_id, (extract(epoch FROM observed_at) * 1000000)::int8, value"
                " FROM readings ORDER BY point_id, observed_at"
            )
        return [tuple(row) for row in found]


@pytest.fixture(scope="module")
async def launched() -> AsyncIterator[tuple[Launcher, KafkaPlace]]:
    async with temporary_stack("dev") as launcher:
        stack = await started(launcher, "kafka")
        yield launcher, KafkaPlace(stack.env["SPINE_KAFKA"])


@pytest.fixture
async def rig(launched: tuple[Launcher, KafkaPlace], database: Database) -> Rig:
    await database.add_project("demo")
    async with open_kafka_log(launched[1]) as log:
        await log.delete_topic(TOPIC)
        await create_topics(log, "demo")
    return Rig(*launched, database)


def batch(gateway_id: int, seq: int) -> ReadingRecord:
    first = seq * READINGS
    columns = Columns.of(
        [gateway_id] * READINGS,
        [T0 + first + at for at in range(READINGS)],
        [float(first + at) for at in range(READINGS)],
        [0] * READINGS,
    )
    return ReadingRecord(gateway_id, 7, seq, T0, columns)


EXPECTED = [
    (gateway_id, T0 + at, float(at)) for gateway_id in (1, 2, 3) for at in range(BATCHES * READINGS)
]
SETTLED = dict.fromkeys((1, 2, 3), ((0, BATCHES - 1),))


async def publish_all(rig: Rig, log: KafkaLog, gateway_id: int, halfway: asyncio.Event) -> None:
    """Send until everything is settled, as a gateway does: also again what is not settled."""
    codec, rng = RecordCodec(), random.Random(gateway_id)
    await _publish(log, codec, gateway_id, range(BATCHES // 2), rng)
    halfway.set()
    await _publish(log, codec, gateway_id, range(BATCHES // 2, BATCHES), rng)
    while (await rig.settled()).get(gateway_id) != SETTLED[gateway_id]:
        await asyncio.sleep(1.0)
        done = (await rig.settled()).get(gateway_id, ())
        missing = [n for n in range(BATCHES) if not any(a <= n <= b for a, b in done)]
        await _publish(log, codec, gateway_id, missing, rng)


async def _publish(
    log: KafkaLog,
    codec: RecordCodec,
    gateway_id: int,
    seqs: list[int] | range,
    rng: random.Random,
) -> None:
    for seq in seqs:
        value = codec.encode(batch(gateway_id, seq))
        for _ in range(rng.choice([1, 1, 2])):
            await _append(log, b"%d" % gateway_id, value)


async def _append(log: KafkaLog, key: bytes, value: bytes) -> None:
    while True:
        try:
            await log.append(TOPIC, key, value)
        except LogAway:
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("wiped", [False, True], ids=["killed", "killed and wiped"])
async def test_nothing_is_lost_or_doubled_when_the_broker_dies(rig: Rig, wiped: bool) -> None:
    halfway = asyncio.Event()

    async with rig.writer(), rig.publishing(halfway):
        await halfway.wait()
        await rig.restart(wiped=wiped)

    assert await rig.stored() == EXPECTED
    assert await rig.settled() == SETTLED


async def test_two_writers_that_fight_for_one_position_write_each_reading_once(rig: Rig) -> None:
    async with rig.writer(), rig.writer(), rig.publishing(asyncio.Event()):
        pass

    assert await rig.stored() == EXPECTED
    assert await rig.settled() == SETTLED
