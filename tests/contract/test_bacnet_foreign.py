"""The BACnet driver keeps the driver contract against devices of two other stacks."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocols.bacnet import BacnetDevice, BacnetPoint, driver_type
from protocols.bacnet.options import Mode
from protocols.driver import PointSource
from protocols.testing.suite import PollingContract, PushingContract
from shared.model import Point
from tests.servers.bacnet import HOST, free_port
from tests.servers.bacnet_foreign import node_bacnet, rusty_bacnet
from tests.servers.foreign import Foreign


class ForeignRig:
    """Four analog inputs of a process of others."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = ({"port": 0}, {"mode": "push"})
    wrong_points: Sequence[dict[str, Any]] = ({"instance": -1},)

    def __init__(self, make: Callable[[int, Path], Foreign], log: Path, mode: Mode) -> None:
        self.port = free_port()
        self._server = make(self.port, log)
        self._mode: Mode = mode

    def options(self, port: int | None = None) -> BacnetDevice:
        return BacnetDevice(
            host=HOST,
            port=port or self.port,
            timeout_s=0.5,
            retries=1,
            mode=self._mode,
            check_s=0.5,
            cov_lifetime_s=60,
        )

    def points(self) -> Sequence[PointSource]:
        return [
            PointSource(Point(f"ahu/{at}"), BacnetPoint(object="analog-input", instance=at))
            for at in range(4)
        ]

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def put(self, index: int, value: float) -> None:
        await self._server.tell(put={index: value})

    async def fail(self, index: int) -> None:
        await self._server.tell(forget=index)


class TestRustyBacnet(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        rig = ForeignRig(rusty_bacnet, tmp_path / "log", "poll")
        await rig.start()
        yield rig
        await rig.stop()


class TestRustyBacnetTellsOfChanges(PushingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        rig = ForeignRig(rusty_bacnet, tmp_path / "log", "cov")
        await rig.start()
        yield rig
        await rig.stop()


class TestNodeBacnet(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        rig = ForeignRig(node_bacnet, tmp_path / "log", "poll")
        await rig.start()
        yield rig
        await rig.stop()
