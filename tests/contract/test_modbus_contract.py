"""The Modbus driver keeps the driver contract, against a pymodbus server."""

import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions, driver_type
from protocols.testing.suite import PollingContract
from shared.model import Point
from tests.servers.modbus import HOST, RegisterServer


class ModbusRig:
    """Four float32 in a row in holding registers."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = (
        {"port": 0},
        {"port": "502"},
        {"unit": 256},
        {"host": ""},
        {"timeout_s": 0},
        {"order": "acbd"},
        {"max_registers": 126},
    )
    wrong_points: Sequence[dict[str, Any]] = (
        {"register": -1},
        {"register": 65_535},
        {"table": "coils"},
        {"table": "coil", "type": "int16"},
        {"type": "bool"},
        {"bit": 3},
        {"scale": 0},
        {"scale": float("nan")},
    )

    def __init__(self) -> None:
        self._server = RegisterServer()

    def options(self, port: int | None = None) -> ModbusDeviceOptions:
        return ModbusDeviceOptions(
            host=HOST, port=port or self._server.port, timeout_s=1, connect_timeout_s=1
        )

    def points(self) -> Sequence[PointSource]:
        return [
            PointSource(
                Point(f"meter/{index}"), ModbusPointOptions(register=2 * index, type="float32")
            )
            for index in range(4)
        ]

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def put(self, index: int, value: float) -> None:
        self._server.put("holding", 2 * index, struct.unpack(">HH", struct.pack(">f", value)))

    async def fail(self, index: int) -> None:
        self._server.unknown |= {("holding", 2 * index), ("holding", 2 * index + 1)}


class TestModbus(PollingContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[ModbusRig]:
        rig = ModbusRig()
        await rig.start()
        yield rig
        await rig.stop()
