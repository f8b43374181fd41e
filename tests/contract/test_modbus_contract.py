"""The Modbus driver keeps the driver contract, against a pymodbus server."""

import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions, driver_type
from protocols.modbus.options import Transport
from protocols.testing.suite import PollingContract
from shared.model import Point
from tests.servers.modbus import HOST, RegisterServer
from tests.servers.serial_line import SerialLine


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
        {"transport": "rtu"},
        {"serial": "/dev/ttyS0"},
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

    transport: Transport = "tcp"

    def __init__(self) -> None:
        is_rtu = self.transport == "rtu_over_tcp"
        self._server = RegisterServer(FramerType.RTU if is_rtu else FramerType.SOCKET)

    def options(self, port: int | None = None) -> ModbusDeviceOptions:
        return ModbusDeviceOptions(
            host=HOST,
            port=port or self._server.port,
            transport=self.transport,
            timeout_s=1,
            connect_timeout_s=1,
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


class RtuRig(ModbusRig):
    """The same behind a converter that passes serial frames on."""

    transport: Transport = "rtu_over_tcp"


class TestModbusRtuOverTcp(PollingContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[RtuRig]:
        rig = RtuRig()
        await rig.start()
        yield rig
        await rig.stop()


class SerialRig(ModbusRig):
    """The same on a serial line."""

    wrong_options: Sequence[dict[str, Any]] = (
        {"transport": "tcp"},
        {"host": "192.0.2.7"},
        {"baudrate": 0},
        {"parity": "mark"},
        {"stop_bits": 3},
    )
    transport: Transport = "rtu"

    def __init__(self, folder: Path) -> None:
        self._line = SerialLine(folder)
        self._server = RegisterServer(FramerType.RTU, self._line)

    def options(self, port: int | None = None) -> ModbusDeviceOptions:
        path = self._line.ours if port is None else Path(f"/dev/no-such-line-{port}")
        return ModbusDeviceOptions(transport="rtu", serial=str(path), timeout_s=1)


class TestModbusSerial(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[SerialRig]:
        rig = SerialRig(tmp_path)
        await rig.start()
        yield rig
        await rig.stop()
