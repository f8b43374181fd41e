"""The OPC UA driver keeps the driver contract, against an asyncua server."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest

from protocols.driver import PointSource
from protocols.opcua import driver_type
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.testing.suite import PollingContract, PushingContract
from shared.model import Point
from tests.servers.opcua import HOST, OpcuaServer

BAD_DEVICE_FAILURE: Final = 0x808B_0000
NAMES: Final = ("supply_temp", "return_temp", "fan_speed")


class OpcuaRig:
    """Three doubles."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = (
        {"url": "http://127.0.0.1:4840"},
        {"url": "opc.tcp://"},
        {"url": "opc.tcp://user:secret@127.0.0.1:4840"},
        {"url": "opc.tcp://127.0.0.1:99999"},
        {"timeout_s": 0},
        {"publishing_interval_ms": 0},
        {"queue_size": 0},
        {"chunk": 0},
        {"trigger": "never"},
    )
    wrong_points: Sequence[dict[str, Any]] = (
        {"node": ""},
        {"node": "supply_temp"},
        {"node": "ns=x;i=1"},
        {"node": "i=one"},
    )

    def __init__(self, server: OpcuaServer) -> None:
        self._server = server

    def options(self, port: int | None = None) -> OpcuaDevice:
        return OpcuaDevice(
            url=f"opc.tcp://{HOST}:{port or self._server.port}",
            timeout_s=1,
            publishing_interval_ms=50,
            keepalive_s=0.5,
        )

    def points(self) -> Sequence[PointSource]:
        return [PointSource(Point(f"ahu/{n}"), OpcuaPoint(node=f"ns=2;s={n}")) for n in NAMES]

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def put(self, index: int, value: float) -> None:
        await self._server.put(NAMES[index], value)

    async def fail(self, index: int) -> None:
        await self._server.put(NAMES[index], 0.0, status=BAD_DEVICE_FAILURE)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[OpcuaServer]:
    server = OpcuaServer()
    await server.start()
    await server.add_numbers(NAMES)
    yield server
    await server.close()


class TestOpcua(PollingContract, PushingContract):
    @pytest.fixture
    async def rig(self, server: OpcuaServer) -> OpcuaRig:
        await server.start()
        for name in NAMES:
            await server.put(name, 0.0)
        return OpcuaRig(server)
