"""The MQTT driver against a real mosquitto: sessions, redelivery, outages, bursts, bad payloads."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import numpy as np
import pytest
from pydantic import SecretStr

from protocols.driver import Delivery, PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox, eventually
from shared.errors import LinkLost, Refused
from shared.model import Point, PointType
from shared.quality import QualityClass, Reason, class_of, reason_of
from tests.servers.mosquitto import HOST, Mosquitto, establish, mosquitto, publish

pytestmark = pytest.mark.integration

TOPIC: Final = "meter/1"
DEADLINE_S: Final = 30.0


class Home:
    """A broker, one session of ours there, and the points it feeds."""

    def __init__(self, broker: Mosquitto, **options: Any) -> None:
        self.broker = broker
        self.device = MqttDevice(
            host=HOST,
            port=broker.port,
            client_id=f"spine-{uuid.uuid4().hex}",
            **({"timeout_s": 2.0} | options),
        )
        self.points: Sequence[PointSource] = [_point()]

    async def establish(self) -> None:
        topics = {MqttPoint.model_validate(source.options).topic for source in self.points}
        await establish(self.broker.port, self.device.client_id, *sorted(topics))

    async def publish(self, *payloads: str | bytes, topic: str = TOPIC) -> None:
        await publish(self.broker.port, topic, *payloads)

    @asynccontextmanager
    async def inbox(
        self, known: Sequence[bytes] = (), *, done: bool = True
    ) -> AsyncIterator[Inbox]:
        inbox = Inbox(done=done)
        async with MqttDriver(self.device) as driver:
            task = asyncio.ensure_future(inbox.consume(driver.subscribe(self.plan(driver), known)))
            try:
                yield inbox
            finally:
                task.cancel()
                await asyncio.wait([task])

    def plan(self, driver: MqttDriver) -> Any:
        return driver.plan(self.points)


def _point(topic: str = TOPIC, kind: PointType = PointType.NUMBER, **options: Any) -> PointSource:
    return PointSource(Point(topic, type=kind), MqttPoint(topic=topic, **options))


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
async def home(broker: Mosquitto) -> Home:
    home = Home(broker)
    await home.establish()
    return home


async def next_delivery(home: Home, *payloads: str | bytes) -> Delivery:
    """Publish, and give the first delivery."""
    await home.establish()
    await home.publish(*payloads)
    async with home.inbox() as inbox:
        await inbox.until(lambda: bool(inbox.deliveries), "a delivery")
    return inbox.deliveries[0]


def qualities(delivery: Delivery) -> list[tuple[QualityClass, Reason]]:
    return [(class_of(code), reason_of(code)) for code in delivery.columns.quality.tolist()]


async def test_what_is_published_while_we_are_away_arrives_in_order(home: Home) -> None:
    async with home.inbox() as inbox:
        await home.publish("1")
        await inbox.until_seen(0, 1.0)
    await home.publish("2", "3", "4")
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 4.0)
    assert inbox.values(0) == [2.0, 3.0, 4.0]


async def test_messages_that_wait_together_come_in_one_delivery_with_a_token_each(
    home: Home,
) -> None:
    await home.publish(*(str(value) for value in range(15)))
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 14.0)
    assert len(inbox.deliveries) < 15
    assert len(set(inbox.tokens())) == 15
    assert {len(token) for token in inbox.tokens()} == {6}


async def test_after_a_cut_only_what_was_not_committed_comes_again(home: Home) -> None:
    await home.publish("1", "2", "3", "4")
    async with home.inbox(done=False) as inbox:
        await inbox.until_seen(0, 4.0)
    committed = inbox.tokens()[:2]
    async with home.inbox(known=committed) as again:
        await again.until_seen(0, 4.0)
    assert again.values(0) == [3.0, 4.0]


async def test_an_equal_new_message_is_not_taken_for_a_redelivery(home: Home) -> None:
    async with home.inbox() as inbox:
        await home.publish("7")
        await inbox.until_seen(0, 7.0)
    forged = [bytes([0, packet_id]) + inbox.tokens()[0][2:] for packet_id in range(256)]
    async with home.inbox(known=forged) as again:
        await home.publish("7")
        await again.until_seen(0, 7.0)


def timed(value: int) -> str:
    return f'{{"v": {value}, "at": {1_700_000_000_000 + value}}}'


async def test_what_a_device_publishes_again_is_told_by_its_own_time(broker: Mosquitto) -> None:
    home = Home(broker)
    home.points = [_point(path="v", time_path="at")]
    await home.establish()
    await home.publish(timed(1), timed(2), timed(1), timed(3))
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 3.0)
    assert inbox.values(0) == [1.0, 2.0, 3.0]
    assert {len(token) for token in inbox.tokens()} == {14}

    await home.publish(timed(2), timed(4))
    async with home.inbox(known=inbox.tokens()) as again:
        await again.until_seen(0, 4.0)
    assert again.values(0) == [4.0]

    async with home.inbox() as later:  # all were acknowledged
        await home.publish(timed(5))
        await later.until_seen(0, 5.0)
    assert later.values(0) == [5.0]


async def test_a_repeat_of_what_waits_leaves_the_first_one_its_acknowledgement(
    broker: Mosquitto,
) -> None:
    home = Home(broker)
    home.points = [_point(path="v", time_path="at")]
    await home.establish()
    await home.publish(timed(1), timed(1), timed(2))
    async with home.inbox(done=False) as inbox:
        await inbox.until_seen(0, 2.0)
    assert inbox.values(0) == [1.0, 2.0]

    async with home.inbox() as again:  # nothing was committed: both come again, once
        await again.until_seen(0, 2.0)
    assert again.values(0) == [1.0, 2.0]


async def test_what_tells_no_time_may_be_said_twice(broker: Mosquitto) -> None:
    home = Home(broker)
    home.points = [_point(path="v", time_path="at")]
    await home.establish()
    await home.publish('{"v": 1}', '{"v": 1}', '{"v": 2}')
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 2.0)
    assert inbox.values(0) == [1.0, 1.0, 2.0]
    assert {len(token) for token in inbox.tokens()} == {6}


async def test_done_from_another_thread_acknowledges(home: Home) -> None:
    await home.publish("1")
    async with home.inbox(done=False) as inbox:
        await inbox.until_seen(0, 1.0)
        await asyncio.to_thread(inbox.deliveries[0].done)
    await home.publish("2")
    async with home.inbox() as again:
        await again.until_seen(0, 2.0)
    assert again.values(0) == [2.0]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_broker_killed_and_restarted_delivers_everything(
    tmp_path: Path, version: str
) -> None:
    async with mosquitto(tmp_path) as broker:
        home = Home(broker, version=version)
        async with home.inbox() as first:
            await eventually_subscribed(home, first)
            await broker.kill()
            await first.until_ended()
        assert isinstance(first.error, LinkLost)
        await broker.start()
        sent = [float(value) for value in range(100, 140)]
        async with home.inbox(known=first.tokens()) as second:
            # The killed broker may have forgotten us: what counts is published after that.
            await eventually_subscribed(home, second)
            await home.publish(*(str(value) for value in sent))
            await second.until_seen(0, sent[-1])
        assert [value for value in second.values(0) if value >= 100] == sent


async def eventually_subscribed(home: Home, inbox: Inbox) -> None:
    """Publish until something arrives."""

    async def arrives() -> bool:
        await home.publish("-1")
        return inbox.count(0, -1.0) > 0

    await eventually(arrives, "the subscription stands")


async def test_a_burst_arrives_whole_while_we_consume(home: Home) -> None:
    sent = [float(value) for value in range(2_000)]
    async with home.inbox() as inbox:
        await home.publish(*(str(value) for value in sent))
        await inbox.until_seen(0, sent[-1])
    assert inbox.values(0) == sent


async def test_a_burst_while_away_loses_what_the_brokers_queue_cannot_hold(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, max_queued_messages=1_000, max_inflight_messages=20) as broker:
        home = Home(broker)
        await home.establish()
        sent = [float(value) for value in range(2_000)]
        await home.publish(*(str(value) for value in sent))
        async with home.inbox() as inbox:
            await home.publish("-1")  # queued behind all that the broker kept
            await inbox.until_seen(0, -1.0)
        kept = [value for value in inbox.values(0) if value >= 0]
    # The broker drops the newest and tells nobody: QoS 1 is not lossless across a broker.
    assert kept == sent[: len(kept)]
    assert 1_000 <= len(kept) <= 1_020


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"{", b"[1, 2", b"[" * 50_000, b'{"a": {}}', b'{"a": "1_0"}', b"{}x"],
)
async def test_garbage_is_bad_quality_and_the_next_message_flows(
    broker: Mosquitto, payload: bytes
) -> None:
    home = Home(broker)
    home.points = [_point(path="a")]
    await home.establish()
    await home.publish(payload, '{"a": 5}')
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 5.0)
    first = inbox.deliveries[0].columns
    assert len(inbox.tokens()) == 2
    assert qualities(inbox.deliveries[0])[0] == (QualityClass.BAD, Reason.BAD_PAYLOAD)
    assert np.isnan(first.value[0])


async def test_one_message_feeds_many_points_and_a_partial_one_only_its_own(
    broker: Mosquitto,
) -> None:
    home = Home(broker)
    home.points = [
        _point(path="temp", time_path="t", time_unit="s"),
        _point(kind=PointType.BOOLEAN, path="on"),
        _point(kind=PointType.TEXT, path="mode"),
    ]
    delivery = await next_delivery(
        home, '{"temp": 21.5, "on": "OFF", "mode": "heat", "t": 1700000000.25}', '{"on": true}'
    )
    columns = delivery.columns
    assert columns.series.tolist()[:4] == [0, 1, 2, 1][: len(columns)]
    assert columns.value.tolist()[:2] == [21.5, 0.0]
    assert columns.texts == {2: "heat"}
    assert columns.observed_at[0] == 1_700_000_000_250_000


async def test_a_retained_message_is_stale_unless_it_tells_its_time(broker: Mosquitto) -> None:
    topic = f"retained/{uuid.uuid4().hex}"
    await publish(broker.port, topic, '{"v": 1, "t": 1700000000000}', retain=True)
    home = Home(broker)
    home.points = [_point(topic, path="v"), _point(topic, path="v", time_path="t")]
    async with home.inbox() as inbox:
        await inbox.until_seen(1, 1.0)
    assert qualities(inbox.deliveries[0]) == [
        (QualityClass.UNCERTAIN, Reason.STALE),
        (QualityClass.GOOD, Reason.NONE),
    ]


async def test_too_large_a_payload_is_bad_and_acknowledged(broker: Mosquitto) -> None:
    home = Home(broker, max_payload_bytes=1_000)
    delivery = await next_delivery(home, b"1" * 1_001)
    assert qualities(delivery) == [(QualityClass.BAD, Reason.TOO_LONG)]
    assert len(delivery.tokens) == 1


async def test_read_gives_the_last_reading_of_each_point(broker: Mosquitto) -> None:
    home = Home(broker)
    home.points = [_point(), _point("never/told")]
    await home.establish()
    await home.publish("1", "2")
    async with MqttDriver(home.device) as driver:
        plan = home.plan(driver)
        with anyio.fail_after(DEADLINE_S):
            async for _ in driver.subscribe(plan, ()):
                columns = await driver.read(plan)
                if columns.value[0] == 2.0:
                    break
    assert reason_of(int(columns.quality[1])) is Reason.NOT_YET_REPORTED


async def test_a_topic_of_an_older_configuration_is_acknowledged_and_left(home: Home) -> None:
    await establish(home.broker.port, home.device.client_id, "old/topic")
    await home.publish("99", topic="old/topic")
    await home.publish("1")
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 1.0)
    await home.publish("99", topic="old/topic")
    await home.publish("2")
    async with home.inbox() as inbox:
        await inbox.until_seen(0, 2.0)
    assert inbox.values(0) == [2.0]


async def test_a_topic_that_the_broker_refuses_is_access_denied(broker: Mosquitto) -> None:
    async with between(broker.port, refuses_second_topic=True) as port:
        home = Home(broker)
        home.device = home.device.model_copy(update={"port": port})
        home.points = [_point(), _point("secret/1")]
        async with home.inbox() as inbox:
            await inbox.until(lambda: bool(inbox.deliveries), "the refusal")
            assert inbox.deliveries[0].columns.series.tolist() == [1]
            assert qualities(inbox.deliveries[0]) == [(QualityClass.BAD, Reason.ACCESS_DENIED)]
            await home.publish("3")
            await inbox.until_seen(0, 3.0)


async def test_a_refused_login_is_refused_and_tells_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with mosquitto(tmp_path, allow_anonymous="false") as broker:
        for version in ("3.1.1", "5"):
            home = Home(broker, version=version, username="me", password=SecretStr("open sesame"))
            with pytest.raises(Refused, match="login") as refusal:
                async with MqttDriver(home.device):
                    pass
            assert "sesame" not in str(refusal.value) + repr(home.device) + caplog.text


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_second_client_of_our_name_ends_the_first(broker: Mosquitto, version: str) -> None:
    home = Home(broker, version=version)
    async with home.inbox() as inbox, MqttDriver(home.device):
        await inbox.until_ended()
    assert isinstance(inbox.error, LinkLost)
    assert str(broker.port) in str(inbox.error)


async def test_version_5_falls_back_where_the_broker_says_nothing_to_it(broker: Mosquitto) -> None:
    async with between(broker.port, silent_to_5=True) as port:
        home = Home(broker, version="5", timeout_s=0.5)
        home.device = home.device.model_copy(update={"port": port})
        await home.establish()
        await home.publish("1")
        async with home.inbox() as inbox:
            await inbox.until_seen(0, 1.0)


@asynccontextmanager
async def between(
    port: int, *, silent_to_5: bool = False, refuses_second_topic: bool = False
) -> AsyncIterator[int]:
    """Pass connections on to a broker, but misbehave as other brokers do (trap 9)."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4_096):
            is_suback = data[:2] == b"\x90\x04"
            writer.write(data[:5] + b"\x80" if refuses_second_topic and is_suback else data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(9)  # fixed header, "MQTT", level
        if silent_to_5 and head[8] == 5:
            await reader.read()
            writer.close()
            return
        back_reader, back_writer = await asyncio.open_connection(HOST, port)
        back_writer.write(head)
        pumps = pump(reader, back_writer), pump(back_reader, writer)
        tasks.update(asyncio.ensure_future(pumping) for pumping in pumps)

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()
