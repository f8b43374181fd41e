"""The MQTT driver keeps the driver contract, against brokers of several makers."""

import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from protocols.driver import PointSource
from protocols.mqtt import driver_type
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import subscribed
from protocols.testing.suite import AcknowledgingContract, Rig
from shared.model import Point
from tests.servers.mosquitto import HOST, Mosquitto, establish, publish
from tests.servers.mqtt_brokers import Broker, aedes, mochi

pytestmark = pytest.mark.integration

TOPICS: Final = ("room/1/temperature", "room/2/temperature", "room/3/temperature")
WINDOW: Final = 8


class MqttRig:
    """Three numbers, one a topic; every test has a session of its own."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = (
        {"host": ""},
        {"port": 0},
        {"client_id": ""},
        {"password": "alone"},
        {"keepalive_s": 0},
        {"version": "4"},
        {"max_in_flight": 0},
        {"timeout_s": 0},
        {"tls_ca": "without tls"},
        {"filters": [{"filter": "a#"}]},
        {"shape": "unheard of"},
    )
    wrong_points: Sequence[dict[str, Any]] = (
        {"topic": ""},
        {"topic": "room/+/temperature"},
        {"topic": "room/#"},
        {"path": "a..b"},
        {"path": "a[x]"},
        {"time_path": "t"},
        {"path": "a", "time_path": "t", "time_unit": "h"},
        {"binary": {"type": "int24"}},
        {"write": {"topic": "a", "template": "nothing"}},
        {"topic": "", "device": "d", "property": "p"},
    )

    def __init__(self, broker: Mosquitto | Broker) -> None:
        self._broker = broker
        self._client_id = f"spine-{uuid.uuid4().hex}"

    def options(self, port: int | None = None) -> MqttDevice:
        return MqttDevice(
            host=HOST,
            port=port or self._broker.port,
            client_id=self._client_id,
            timeout_s=1,
            max_in_flight=WINDOW,
        )

    def points(self) -> Sequence[PointSource]:
        return [PointSource(Point(topic), MqttPoint(topic=topic)) for topic in TOPICS]

    async def start(self) -> None:
        await self._broker.start()

    async def stop(self) -> None:
        await self._broker.stop()

    async def put(self, index: int, value: float) -> None:
        await publish(self._broker.port, TOPICS[index], str(value))

    async def fail(self, index: int) -> None:
        await publish(self._broker.port, TOPICS[index], "out of order")

    async def join(self) -> None:
        await establish(self._broker.port, self._client_id, *TOPICS)


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    home: Path = tmp_path_factory.mktemp("broker")
    async with Mosquitto(home) as broker:
        yield broker


class TestMqtt(AcknowledgingContract):
    max_unacknowledged = WINDOW

    @pytest.fixture
    async def rig(self, broker: Mosquitto) -> MqttRig:
        return await joined(broker)


class TestAedes(AcknowledgingContract):
    max_unacknowledged = WINDOW

    @pytest.fixture(scope="class")
    async def aedes(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
        async with aedes(tmp_path_factory.mktemp("aedes")) as broker:
            yield broker

    @pytest.fixture
    async def rig(self, aedes: Broker) -> MqttRig:
        return await joined(aedes)

    async def test_what_is_known_is_acknowledged_and_not_yielded(self, rig: Rig) -> None:
        # aedes repeats without the DUP flag and under another packet id: to us it is a new message,
        # unless it tells its own time.
        async with subscribed(rig, done=False) as inbox:
            await rig.put(0, 31.0)
            await inbox.until_seen(0, 31.0)
        async with subscribed(rig, known=inbox.tokens()) as again:
            await rig.put(0, 32.0)
            await again.until_seen(0, 32.0)
        assert again.values(0) == [31.0, 32.0]
        async with subscribed(rig) as third:
            await rig.put(0, 33.0)
            await third.until_seen(0, 33.0)
        assert third.values(0) == [33.0]


@pytest.mark.peers
class TestMochi(AcknowledgingContract):
    max_unacknowledged = WINDOW

    @pytest.fixture(scope="class")
    async def mochi(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
        async with mochi(tmp_path_factory.mktemp("mochi")) as broker:
            yield broker

    @pytest.fixture
    async def rig(self, mochi: Broker) -> MqttRig:
        return await joined(mochi)


async def joined(broker: Mosquitto | Broker) -> MqttRig:
    """Give a rig on a broker that runs, whose session is there."""
    await broker.start()
    rig = MqttRig(broker)
    await rig.join()
    return rig
