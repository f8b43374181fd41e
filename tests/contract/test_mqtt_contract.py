"""The MQTT driver keeps the driver contract, against a real mosquitto."""

import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from protocols.driver import PointSource
from protocols.mqtt import driver_type
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.suite import AcknowledgingContract
from shared.model import Point
from tests.servers.mosquitto import HOST, Mosquitto, establish, publish

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
    )
    wrong_points: Sequence[dict[str, Any]] = (
        {"topic": ""},
        {"topic": "room/+/temperature"},
        {"topic": "room/#"},
        {"path": "a..b"},
        {"path": "a[x]"},
        {"time_path": "t"},
        {"path": "a", "time_path": "t", "time_unit": "h"},
    )

    def __init__(self, broker: Mosquitto) -> None:
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
        await broker.start()
        rig = MqttRig(broker)
        await rig.join()
        return rig
