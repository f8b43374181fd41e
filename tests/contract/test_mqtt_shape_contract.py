"""The MQTT driver keeps the driver contract with points of a known device shape."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from protocols.driver import PointSource
from protocols.mqtt import driver_type
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.mqtt.shapes import Place, ShapeOptions
from protocols.mqtt.shapes.zigbee2mqtt import make
from protocols.testing.suite import AcknowledgingContract
from shared.model import Point
from tests.servers.mosquitto import HOST, Mosquitto, establish, publish

pytestmark = pytest.mark.integration

PLACES: Final = (
    Place("hall/sensor", "temperature"),
    Place("hall/sensor", "color.x"),
    Place("attic", "temperature"),
)
WINDOW: Final = 8


class ShapedRig:
    """Three numbers of two devices of Zigbee2MQTT; every test has a session of its own."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = ({"shape": "unheard of"}, {"base": 5})
    wrong_points: Sequence[dict[str, Any]] = (
        {"device": ""},
        {"device": "a/+"},
        {"property": ""},
        {"topic": "beside/the/shape"},
        {"path": "a"},
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
            shape="zigbee2mqtt",
        )

    def points(self) -> Sequence[PointSource]:
        return [
            PointSource(
                Point(f"{one.device}/{one.property}"),
                MqttPoint(device=one.device, property=one.property),
            )
            for one in PLACES
        ]

    async def start(self) -> None:
        await self._broker.start()

    async def stop(self) -> None:
        await self._broker.stop()

    async def put(self, index: int, value: float) -> None:
        await self._say(index, value)

    async def fail(self, index: int) -> None:
        await self._say(index, "out of order")

    async def join(self) -> None:
        filters = make(ShapeOptions()).filters(PLACES)
        await establish(self._broker.port, self._client_id, *filters)

    async def _say(self, index: int, value: object) -> None:
        place = PLACES[index]
        told = value
        for name in reversed(place.property.split(".")):
            told = {name: told}
        await publish(self._broker.port, f"zigbee2mqtt/{place.device}", json.dumps(told))


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    home: Path = tmp_path_factory.mktemp("broker")
    async with Mosquitto(home) as broker:
        yield broker


class TestShaped(AcknowledgingContract):
    max_unacknowledged = WINDOW

    @pytest.fixture
    async def rig(self, broker: Mosquitto) -> ShapedRig:
        await broker.start()
        rig = ShapedRig(broker)
        await rig.join()
        return rig
