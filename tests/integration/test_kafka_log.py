"""The log in Kafka when brokers die, hang and forget, topics go, and callers are cancelled."""

import asyncio
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from central.messaging import (
    LogAway,
    OffsetOutOfRange,
    Record,
    RecordTooLarge,
    TopicUnknown,
    create_topics,
    kafka_log,
)
from central.messaging.kafka_log import TOGETHER_BYTES, KafkaLog, KafkaPlace, open_kafka_log
from deploy.central.native.launcher import Launcher
from tests.contract.log_suite import LIMIT, TOPIC, read_all
from tests.servers.stack import started, temporary_stack

pytestmark = pytest.mark.integration
DEADLINE_S = 60


@dataclass(frozen=True)
class Broker:
    """A broker of this module's own, to be killed."""

    launcher: Launcher
    place: KafkaPlace

    async def kill(self) -> None:
        await asyncio.to_thread(self.launcher.kill, "kafka")

    async def start(self) -> None:
        await asyncio.to_thread(self.launcher.start, "kafka")

    async def lose_disk(self) -> None:
        await self.kill()
        await asyncio.to_thread(self.launcher.wipe, "kafka")
        await self.start()

    @asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """Stop all its threads for a while."""
        pid = self.launcher.pid("kafka")
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await asyncio.to_thread(_is_stopped, pid):  # noqa: ASYNC110 -- outside
                    await asyncio.sleep(0.01)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
async def launched() -> AsyncIterator[Broker]:
    async with temporary_stack("dev") as launcher:
        stack = await started(launcher, "kafka")
        yield Broker(launcher, KafkaPlace(stack.env["SPINE_KAFKA"]))


@pytest.fixture
async def broker(launched: Broker) -> Broker:
    """Give the broker, running, with new topics of the project demo."""
    if not launched.launcher.names():
        await launched.start()
    async with open_kafka_log(launched.place) as log:
        await renew(log)
    return launched


@pytest.fixture
async def log(broker: Broker) -> AsyncIterator[KafkaLog]:
    async with open_kafka_log(broker.place) as log:
        yield log


@pytest.fixture
async def other(broker: Broker) -> AsyncIterator[KafkaLog]:
    async with open_kafka_log(broker.place) as log:
        yield log


async def renew(log: KafkaLog) -> None:
    await log.delete_topic(TOPIC)
    await create_topics(log, "demo")


async def insist(call: Callable[[], Awaitable[object]]) -> None:
    """Call as ingress and writer do: again until it works."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await call()
            except LogAway:
                await asyncio.sleep(0.1)
            else:
                return


def values(records: list[Record]) -> list[bytes]:
    return [record.value for record in records]


async def test_every_call_says_that_no_broker_is_there() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        async with open_kafka_log(KafkaPlace(f"127.0.0.1:{port}")) as log:
            for call in (
                log.append(TOPIC, b"gw", b"1"),
                log.read(TOPIC, 0, None, LIMIT, 60),
                log.log_id(TOPIC),
                log.create_topic(TOPIC),
                log.delete_topic(TOPIC),
                log.trim(TOPIC, 0, 1),
            ):
                async with asyncio.timeout(DEADLINE_S):
                    with pytest.raises(LogAway, match=rf"127\.0\.0\.1:{port} is away"):
                        await call


async def test_the_same_log_goes_on_when_a_killed_broker_is_back(
    broker: Broker, log: KafkaLog, caplog: pytest.LogCaptureFixture
) -> None:
    first = await log.append(TOPIC, b"gw", b"1")
    await broker.kill()
    for call in (
        log.append(TOPIC, b"gw", b"lost"),
        log.read(TOPIC, 0, None, LIMIT, 60),
        log.log_id(TOPIC),
    ):
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(LogAway):
                await call

    await broker.start()

    await insist(lambda: log.append(TOPIC, b"gw", b"2"))
    assert await log.log_id(TOPIC) == first.log_id
    assert values(await read_all(log)) == [b"1", b"2"]
    assert caplog.records == []


async def test_what_was_acknowledged_survives_a_kill_in_the_middle(
    broker: Broker, log: KafkaLog
) -> None:
    sent = [b"%d" % at for at in range(400)]
    halfway = asyncio.Event()

    async def append_all(key: bytes) -> None:
        for at, value in enumerate(sent):
            await insist(lambda value=value: log.append(TOPIC, key, value))  # type: ignore[misc]
            if at == 100:
                halfway.set()

    async with asyncio.timeout(2 * DEADLINE_S), asyncio.TaskGroup() as group:
        for key in (b"a", b"b", b"c"):
            group.create_task(append_all(key))
        await halfway.wait()
        await broker.kill()
        await broker.start()

    records = await read_all(log)
    for key in (b"a", b"b", b"c"):
        mine = [record.value for record in records if record.key == key]
        assert list(dict.fromkeys(mine)) == sent


async def test_a_reader_that_waits_is_told_when_the_broker_dies(
    broker: Broker, log: KafkaLog
) -> None:
    end = (await log.append(TOPIC, b"gw", b"1")).offset + 1
    reading = asyncio.create_task(log.read(TOPIC, 0, end, LIMIT, 300))
    await _waits(log)

    await broker.kill()

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(LogAway):
            await reading
    await broker.start()
    await insist(lambda: log.append(TOPIC, b"gw", b"2"))
    assert values(list(await log.read(TOPIC, 0, end, LIMIT, 0))) == [b"2"]


async def test_a_broker_that_hangs_is_told_as_away_in_bounded_time(
    broker: Broker, log: KafkaLog
) -> None:
    await log.append(TOPIC, b"gw", b"1")
    async with broker.hanging(), asyncio.timeout(DEADLINE_S):
        with pytest.raises(LogAway, match="does not answer in time"):
            await log.append(TOPIC, b"gw", b"2")

    await insist(lambda: log.append(TOPIC, b"gw", b"3"))
    # The second was on its way: it may have come, and late.
    assert {b"1", b"3"} <= set(values(await read_all(log))) <= {b"1", b"2", b"3"}


async def test_all_who_wait_behind_an_append_are_told_with_it(
    broker: Broker, log: KafkaLog
) -> None:
    await log.append(TOPIC, b"gw", b"1")
    large = bytes(TOGETHER_BYTES)
    async with broker.hanging(), asyncio.timeout(DEADLINE_S):
        calls = [log.append(TOPIC, b"gw", large) for _ in range(12)]
        told = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in told] == [LogAway] * 12


async def test_records_that_are_too_large_together_are_written_one_by_one(
    broker: Broker, log: KafkaLog
) -> None:
    await asyncio.to_thread(_set, broker.place.bootstrap, TOPIC, {"max.message.bytes": "20000"})
    sizes = [10, *[15_000] * 8, 25_000, 10]

    async with asyncio.timeout(DEADLINE_S):
        calls = [log.append(TOPIC, b"gw", bytes(size)) for size in sizes]
        told = await asyncio.gather(*calls, return_exceptions=True)

    assert [isinstance(each, RecordTooLarge) for each in told] == [size > 20_000 for size in sizes]
    assert [len(value) for value in values(await read_all(log))] == [10, *[15_000] * 8, 10]


async def test_marks_of_transactions_are_passed_over(
    broker: Broker, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "LONGEST_WAIT_S", DEADLINE_S)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.place.bootstrap, transactional_id="of another"
    )
    async with asyncio.timeout(DEADLINE_S), producer:
        for value in (b"1", b"2"):
            async with producer.transaction():
                await producer.send_and_wait(TOPIC, value)
        mark = (await log.read(TOPIC, 0, None, LIMIT, 0))[-1].offset + 1

        assert not await log.read(TOPIC, 0, mark, LIMIT, 0)
        reading = asyncio.create_task(log.read(TOPIC, 0, mark, LIMIT, DEADLINE_S))
        for _ in range(10):
            await log.log_id(TOPIC)
        await log.append(TOPIC, b"gw", b"3")
        assert values(list(await reading)) == [b"3"]


async def test_a_lost_disk_is_another_life(broker: Broker, log: KafkaLog, other: KafkaLog) -> None:
    for at in range(5):
        old = await log.append(TOPIC, b"gw", bytes([at]))
    await other.append(TOPIC, b"gw", b"\x05")  # it has seen the old life, too

    await broker.lose_disk()
    with pytest.raises(TopicUnknown):
        await log.log_id(TOPIC)
    with pytest.raises(TopicUnknown):
        await other.append(TOPIC, b"gw", b"nowhere")
    await create_topics(log, "demo")

    new = await other.append(TOPIC, b"gw", b"new")
    assert (new.offset, new.log_id) == (0, await log.log_id(TOPIC))
    assert new.log_id != old.log_id
    with pytest.raises(OffsetOutOfRange):
        await log.read(TOPIC, 0, old.offset, LIMIT, 0)
    assert values(await read_all(log)) == [b"new"]


async def test_a_reader_that_waits_is_told_when_its_topic_is_removed(
    log: KafkaLog, other: KafkaLog
) -> None:
    reading = asyncio.create_task(log.read(TOPIC, 0, None, LIMIT, 300))
    await _waits(log)

    await other.delete_topic(TOPIC)

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(TopicUnknown):
            await reading


async def test_a_reader_that_waits_goes_on_in_a_topic_made_anew(
    log: KafkaLog, other: KafkaLog
) -> None:
    await log.append(TOPIC, b"gw", b"old")
    await renew(other)
    reading = asyncio.create_task(log.read(TOPIC, 0, None, LIMIT, 300))
    await _waits(log)

    await other.append(TOPIC, b"gw", b"new")

    async with asyncio.timeout(DEADLINE_S):
        assert values(list(await reading)) == [b"new"]


async def test_a_trim_that_was_meant_for_an_earlier_life_does_nothing(
    log: KafkaLog, other: KafkaLog
) -> None:
    for at in range(6):
        await log.append(TOPIC, b"gw", bytes([at]))
    await renew(other)
    for at in range(6):
        await other.append(TOPIC, b"gw", bytes([at]))

    await log.trim(TOPIC, 0, 4)
    assert len(await read_all(other)) == 6

    await log.trim(TOPIC, 0, 4)
    assert len(await read_all(other)) == 2


async def test_a_trim_beyond_the_end_takes_nothing(log: KafkaLog) -> None:
    await log.append(TOPIC, b"gw", b"1")

    await log.trim(TOPIC, 0, 100)

    assert values(await read_all(log)) == [b"1"]


async def test_an_append_that_is_cancelled_takes_no_other_with_it(log: KafkaLog) -> None:
    rng = random.Random(7)
    numbered = {
        at: asyncio.create_task(log.append(TOPIC, b"gw", at.to_bytes(2, "big")))
        for at in range(600)
    }
    given_up = set(rng.sample(sorted(numbered), 200))
    for at in sorted(given_up):
        numbered[at].cancel()
        await asyncio.sleep(0)
    await asyncio.wait(numbered.values())

    kept = [at for at, task in numbered.items() if not task.cancelled()]
    assert set(numbered) - set(kept) <= given_up
    found = [int.from_bytes(record.value, "big") for record in await read_all(log)]
    assert found == sorted(set(found))
    assert set(kept) <= set(found)
    assert [numbered[at].result().offset for at in kept] == [found.index(at) for at in kept]


async def test_a_read_that_is_cancelled_loses_nothing_for_the_next(
    log: KafkaLog, other: KafkaLog
) -> None:
    rng = random.Random(8)
    found: list[Record] = []
    cancelled = 0

    async def append_all() -> None:
        for at in range(300):
            await other.append(TOPIC, b"gw", at.to_bytes(2, "big"))

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(append_all())
        while len(found) < 300:
            limit_s = rng.choice([DEADLINE_S, rng.uniform(0, 0.01)])
            try:
                async with asyncio.timeout(limit_s):
                    offset = found[-1].offset + 1 if found else 0
                    found += await log.read(TOPIC, 0, offset, 100, 5)
            except TimeoutError:
                cancelled += 1

    assert cancelled
    assert [int.from_bytes(value, "big") for value in values(found)] == list(range(300))


async def test_readers_that_wait_do_not_stand_in_the_way_of_appends(log: KafkaLog) -> None:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        readers = [group.create_task(log.read(TOPIC, 0, None, LIMIT, 300)) for _ in range(50)]
        await _waits(log, len(readers))
        await log.append(TOPIC, b"gw", b"1")

    assert [values(list(reader.result())) for reader in readers] == [[b"1"]] * 50


@pytest.mark.parametrize("turns", [0, 0.1], ids=["not begun", "on its way"])
async def test_who_waits_for_an_append_is_told_when_the_log_is_closed(
    broker: Broker, turns: float
) -> None:
    async with broker.hanging():
        async with open_kafka_log(broker.place) as log:
            tasks = [asyncio.create_task(log.append(TOPIC, b"gw", b"1")) for _ in range(3)]
            await asyncio.sleep(turns)
        for task in tasks:
            with pytest.raises(LogAway, match="closed"):
                await task
        with pytest.raises(LogAway, match="closed"):
            await log.append(TOPIC, b"gw", b"2")


async def test_several_make_the_same_topic_at_once(log: KafkaLog, other: KafkaLog) -> None:
    await log.delete_topic(TOPIC)

    await asyncio.gather(*(each.create_topic(TOPIC) for each in (log, other) * 4))

    assert await log.log_id(TOPIC) == await other.log_id(TOPIC)
    await asyncio.gather(log.append(TOPIC, b"gw", b"1"), other.append(TOPIC, b"gw", b"2"))
    assert sorted(values(await read_all(log))) == [b"1", b"2"]


async def test_a_new_topic_keeps_large_records_and_gives_disk_back(
    broker: Broker, log: KafkaLog
) -> None:
    found = await asyncio.to_thread(_settings, broker.place.bootstrap, TOPIC)

    assert found["max.message.bytes"] == str(32 * 1024 * 1024)
    assert found["cleanup.policy"] == "delete"
    assert found["min.insync.replicas"] == "1"
    assert found["retention.ms"] == str(30 * 86_400_000)
    assert int(found["segment.bytes"]) >= int(found["max.message.bytes"])
    assert await log.log_id(TOPIC)


async def _waits(log: KafkaLog, readers: int = 1) -> None:
    """Wait until readers hold their connections."""
    async with asyncio.timeout(DEADLINE_S):
        while log.readers < readers:  # noqa: ASYNC110 -- the condition is in another task
            await asyncio.sleep(0.01)


def _is_stopped(pid: int) -> bool:
    threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(text.rpartition(")")[2].split()[0] == "T" for text in threads)


def _settings(bootstrap: str, topic: str) -> dict[str, str]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        answer = client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all"
        )
    finally:
        client.close()
    return {name: str(told["value"]) for name, told in answer["topic"][topic].items()}


def _set(bootstrap: str, topic: str, settings: dict[str, str]) -> None:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        client.close()
