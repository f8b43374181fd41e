"""The BACnet driver keeps the driver contract, against a device of bacpypes3's objects."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from protocols.bacnet import BacnetDevice, BacnetPoint, driver_type
from protocols.bacnet.options import Mode
from protocols.driver import PointSource
from protocols.testing.suite import PollingContract, PushingContract
from shared.model import Point
from tests.servers.bacnet import HOST, BacnetServer


class BacnetRig:
    """Four analog inputs."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = (
        {"port": 0},
        {"host": ""},
        {"timeout_s": 0},
        {"instance": 4_194_303},
        {"max_points": 0},
        {"mode": "push"},
        {"cov_lifetime_s": 0},
    )
    wrong_points: Sequence[dict[str, Any]] = (
        {"object": "analog"},
        {"instance": -1},
        {"property": "Present Value"},
        {"index": 0},
    )

    mode: Mode = "poll"

    def __init__(self) -> None:
        self.server = BacnetServer()

    def options(self, port: int | None = None) -> BacnetDevice:
        place = port or self.server.port
        return BacnetDevice(
            host=HOST, port=place, timeout_s=0.5, retries=1, mode=self.mode, check_s=0.5
        )

    def points(self) -> Sequence[PointSource]:
        return [
            PointSource(Point(f"ahu/{at}"), BacnetPoint(object="analog-input", instance=at))
            for at in range(4)
        ]

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    async def put(self, index: int, value: float) -> None:
        self.server.inputs[index].presentValue = value

    async def fail(self, index: int) -> None:
        self.server.forget(index)


class TestBacnet(PollingContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[BacnetRig]:
        rig = BacnetRig()
        await rig.start()
        yield rig
        await rig.stop()


class TellingRig(BacnetRig):
    """The same, told of changes."""

    mode: Mode = "cov"


class TestBacnetTellsOfChanges(PushingContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[TellingRig]:
        rig = TellingRig()
        await rig.start()
        yield rig
        await rig.stop()
