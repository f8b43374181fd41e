"""The Modbus driver keeps the driver contract against servers of two other stacks."""

import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions, driver_type
from protocols.testing.suite import PollingContract
from shared.model import Point
from tests.servers import libmodbus
from tests.servers.foreign import Foreign
from tests.servers.modbus import HOST
from tests.servers.modbus_serial import modbus_serial
from tests.servers.ports import ports_in_a_row
from tests.servers.serial_line import SerialLine


class ForeignRig:
    """Four float32 in a row in holding registers of a process of others."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = ({"port": 0}, {"unit": 256})
    wrong_points: Sequence[dict[str, Any]] = ({"register": -1}, {"scale": 0})

    def __init__(self, server: Foreign, port: int) -> None:
        self.server = server
        self.port = port
        self.held: dict[int, int] = {}

    def options(self, port: int | None = None) -> ModbusDeviceOptions:
        return ModbusDeviceOptions(
            host=HOST, port=port or self.port, timeout_s=1, connect_timeout_s=1
        )

    def points(self) -> Sequence[PointSource]:
        return [
            PointSource(
                Point(f"meter/{index}"), ModbusPointOptions(register=2 * index, type="float32")
            )
            for index in range(4)
        ]

    async def start(self) -> None:
        if not self.server.is_running:
            await self.server.start()
            for index in range(4):
                await self.put(index, 0.0)

    async def stop(self) -> None:
        await self.server.stop()

    async def put(self, index: int, value: float) -> None:
        for at, word in enumerate(struct.unpack(">HH", struct.pack(">f", value))):
            await self.put_word(2 * index + at, word)

    async def put_word(self, address: int, word: int) -> None:
        raise NotImplementedError

    async def fail(self, index: int) -> None:
        raise NotImplementedError


class ModbusSerialRig(ForeignRig):
    """modbus-serial, JavaScript."""

    async def put_word(self, address: int, word: int) -> None:
        await self.server.tell(unit=1, put={address: word})

    async def fail(self, index: int) -> None:
        await self.server.tell(unit=1, forget=[2 * index, 2 * index + 1])


class LibmodbusRig(ForeignRig):
    """libmodbus, C."""

    async def put_word(self, address: int, word: int) -> None:
        await self.server.tell(put=f"{address} {word}")

    async def fail(self, index: int) -> None:
        await self.server.tell(forget=f"{2 * index}")


class SerialRig(LibmodbusRig):
    """libmodbus on a serial line."""

    wrong_options: Sequence[dict[str, Any]] = ({"baudrate": 0}, {"parity": "mark"})

    def __init__(self, server: Foreign, line: SerialLine) -> None:
        super().__init__(server, 0)
        self._line = line

    def options(self, port: int | None = None) -> ModbusDeviceOptions:
        path = self._line.ours if port is None else Path(f"/dev/no-such-line-{port}")
        return ModbusDeviceOptions(transport="rtu", serial=str(path), timeout_s=1)

    async def start(self) -> None:
        if not self.server.is_running:
            self._line.plug_in()
        await super().start()

    async def stop(self) -> None:
        if self.server.is_running:
            self._line.pull_out()
        await super().stop()


class TestModbusSerial(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        port = ports_in_a_row(1)
        rig = ModbusSerialRig(modbus_serial(port, tmp_path / "log"), port)
        await rig.start()
        yield rig
        await rig.stop()


class TestLibmodbus(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        port = ports_in_a_row(1)
        server = Foreign([*libmodbus.server(), "tcp", port], tmp_path / "log")
        rig = LibmodbusRig(server, port)
        await rig.start()
        yield rig
        await rig.stop()


@pytest.mark.peers
class TestLibmodbusOnASerialLine(PollingContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[ForeignRig]:
        line = SerialLine(tmp_path)
        server = Foreign([*libmodbus.server(), "rtu", line.theirs], tmp_path / "log")
        rig = SerialRig(server, line)
        await rig.start()
        yield rig
        await rig.stop()
