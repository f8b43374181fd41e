"""The log on three brokers with TLS and rights: one dies for good, and who may do what."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from central.messaging import LogAway, Record, create_topics, topic
from central.messaging.kafka_brokers import Brokers
from central.messaging.kafka_log import KafkaLog, KafkaPlace, open_kafka_log
from central.messaging.kafka_requests import NotNow, Topic, fetch
from deploy.central.native.launcher import Launcher
from shared.pki import make_root, save_root
from tests.contract.log_suite import LIMIT, TOPIC
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]
pytestmark = pytest.mark.integration
DEADLINE_S = 120
KEYS = (b"a", b"b", b"c", b"d")
EACH = 150


@dataclass(frozen=True)
class Rig:
    """Three brokers."""

    launcher: Launcher
    place: KafkaPlace

    async def look_up(self) -> Topic:
        """Tell who leads the topic now."""
        brokers = Brokers(self.place)
        try:
            return await brokers.look_up(TOPIC)
        finally:
            await brokers.close()


@pytest.fixture
async def rig(staging_stack: RunningStack) -> AsyncIterator[Rig]:
    env = staging_stack.env
    ca, identity = Path(env["SPINE_KAFKA_CA"]), Path(env["SPINE_KAFKA_IDENTITY"])
    replicas = int(env["SPINE_KAFKA_REPLICAS"])
    place = KafkaPlace(env["SPINE_KAFKA"], ca, identity, replicas)
    async with open_kafka_log(place) as log:
        await log.delete_topic(TOPIC)
        await create_topics(log, "demo")
    yield Rig(staging_stack.launcher, place)
    await asyncio.to_thread(staging_stack.launcher.up, ["kafka"])


async def test_nothing_is_lost_when_the_leader_dies_and_once_back_it_answers_no_reader(
    rig: Rig,
) -> None:
    halfway = asyncio.Event()
    before = await rig.look_up()
    async with (
        asyncio.timeout(DEADLINE_S),
        open_kafka_log(rig.place) as log,
        open_kafka_log(rig.place) as other,
        asyncio.TaskGroup() as group,
    ):
        following = group.create_task(_follow(other))
        for key in KEYS:
            group.create_task(_append_all(log, key, halfway))
        await halfway.wait()
        await asyncio.to_thread(rig.launcher.kill, f"kafka{before.leader(0).broker}")

    records = following.result()
    for key in KEYS:
        mine = [record.value for record in records if record.key == key]
        assert list(dict.fromkeys(mine)) == [b"%d" % at for at in range(EACH)]
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    await asyncio.to_thread(rig.launcher.up, ["kafka"])
    # Without the epoch in the question it would answer, and it may be behind.
    assert "FencedLeaderEpoch" in await _refusal(rig, before)


async def test_with_two_of_three_dead_a_record_is_not_acknowledged(rig: Rig) -> None:
    async with open_kafka_log(rig.place) as log, asyncio.timeout(2 * DEADLINE_S):
        await log.append(TOPIC, b"gw", b"1")
        leader = (await rig.look_up()).leader(0).broker
        for name in {"kafka1", "kafka2", "kafka3"} - {f"kafka{leader}"}:
            await asyncio.to_thread(rig.launcher.kill, name)

        with pytest.raises(LogAway):
            await log.append(TOPIC, b"gw", b"2")

        await asyncio.to_thread(rig.launcher.up, ["kafka"])
        await _insist(log, b"gw", b"3")


async def test_a_right_that_is_lacking_is_named(rig: Rig) -> None:
    async with open_kafka_log(rig.place) as log:
        for call in (log.create_topic("other.topic"), log.append("other.topic", b"gw", b"1")):
            with pytest.raises(LogAway, match=r"ACL Describe on topics with the prefix spine\."):
                await call


async def test_who_shows_no_certificate_is_not_let_in(rig: Rig) -> None:
    async with open_kafka_log(replace(rig.place, identity=None)) as log:
        with pytest.raises(LogAway, match="is away"):
            await log.log_id(topic("demo", "readings"))


async def test_brokers_another_authority_signed_are_not_trusted(rig: Rig, tmp_path: Path) -> None:
    save_root(make_root("another"), tmp_path)
    async with open_kafka_log(replace(rig.place, ca=tmp_path / "root.pem")) as log:
        with pytest.raises(LogAway, match="certificate verify failed"):
            await log.log_id(topic("demo", "readings"))


async def _refusal(rig: Rig, before: Topic) -> str:
    """Ask the leader of before for records, and give what it says once it knows who leads."""
    brokers = Brokers(rig.place)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await brokers.look_up(TOPIC)
            try:
                await brokers.ask_leader(before, 0, fetch(before, 0, 0, LIMIT, 0))
            except NotNow as error:
                if "Epoch" in str(error):
                    await brokers.close()
                    return str(error)
            await asyncio.sleep(0.1)


async def _append_all(log: KafkaLog, key: bytes, halfway: asyncio.Event) -> None:
    for at in range(EACH):
        await _insist(log, key, b"%d" % at)
        if at == EACH // 3:
            halfway.set()


async def _insist(log: KafkaLog, key: bytes, value: bytes) -> None:
    while True:
        try:
            await log.append(TOPIC, key, value)
        except LogAway:
            await asyncio.sleep(0.1)
        else:
            return


async def _follow(log: KafkaLog) -> list[Record]:
    """Read until the last record of every key is there."""
    found: list[Record] = []
    last = b"%d" % (EACH - 1)
    while {record.key for record in found if record.value == last} != set(KEYS):
        offset = found[-1].offset + 1 if found else 0
        try:
            found += await log.read(TOPIC, 0, offset, LIMIT, 1)
        except LogAway:
            await asyncio.sleep(0.1)
    return found
