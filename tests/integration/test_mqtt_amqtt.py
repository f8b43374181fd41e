"""The MQTT driver against amqtt, the broker of the demo and a second implementation."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from amqtt.broker import Broker
from paho.mqtt import publish as paho_publish

from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox
from shared.model import Point
from shared.quality import GOOD, Reason, uncertain

pytestmark = pytest.mark.integration

HOST: Final = "127.0.0.1"
TOPIC: Final = "room/1"
ANONYMOUS: Final = "amqtt.plugins.authentication.AnonymousAuthPlugin"


class TidyBroker(Broker):  # type: ignore[misc] # amqtt ships no types
    """Closes every connection it is done with: amqtt forgets some whose client left early."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Run a broker that wants a user name, any: it keeps nothing for clients without one."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    broker = TidyBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {ANONYMOUS: {"allow_anonymous": False}},
        }
    )
    await broker.start()
    yield port
    await broker.shutdown()


async def publish(port: int, *payloads: str) -> None:
    messages: list[Any] = [(TOPIC, payload, 1, False) for payload in payloads]
    login: Any = {"username": "meter"}
    await asyncio.to_thread(paho_publish.multiple, messages, hostname=HOST, port=port, auth=login)


@asynccontextmanager
async def subscribed(port: int, known: Sequence[bytes] = ()) -> AsyncIterator[Inbox]:
    inbox = Inbox(done=True)
    options = MqttDevice(host=HOST, port=port, client_id="spine", username="gateway")
    async with MqttDriver(options) as driver:
        plan = driver.plan([PointSource(Point("p"), MqttPoint(topic=TOPIC))])
        task = asyncio.ensure_future(inbox.consume(driver.subscribe(plan, known)))
        try:
            yield inbox
        finally:
            task.cancel()
            await asyncio.wait([task])


async def begun(port: int, inbox: Inbox) -> None:
    """Publish until the subscription stands."""
    while not inbox.deliveries:
        await publish(port, "0")


async def test_what_is_published_arrives_in_order(port: int) -> None:
    async with subscribed(port) as inbox:
        await begun(port, inbox)
        await publish(port, *(str(value) for value in range(1, 301)))
        await inbox.until_seen(0, 300.0)
    assert [value for value in inbox.values(0) if value] == [float(n) for n in range(1, 301)]
    assert inbox.deliveries[-1].columns.quality[-1] == GOOD


async def test_what_is_published_while_we_are_away_arrives_flagged_as_retained(port: int) -> None:
    async with subscribed(port) as inbox:
        await begun(port, inbox)
    await publish(port, "1", "2", "3")
    async with subscribed(port, known=inbox.tokens()) as inbox:
        await inbox.until_seen(0, 3.0)
    assert inbox.values(0) == [1.0, 2.0, 3.0]
    # amqtt sets the retain flag on them, against [MQTT-3.3.1-9]: without a time of their own
    # nobody can tell them from old ones.
    assert inbox.deliveries[0].columns.quality.tolist()[0] == uncertain(Reason.STALE)
