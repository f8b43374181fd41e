"""The driver and the unit-test server of libmodbus's authors, which misbehaves on purpose."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.testing.rig import eventually
from shared.columns import Columns
from shared.errors import LinkLost
from shared.model import Point
from shared.quality import Reason, reason_of
from tests.servers import libmodbus
from tests.servers.foreign import Foreign
from tests.servers.modbus import HOST
from tests.servers.ports import ports_in_a_row
from tests.servers.serial_line import SerialLine

pytestmark = pytest.mark.peers

REGISTERS, BUSY, WRONG_TRANSACTION, LATE, END = 0x160, 0x170, 0x171, 0x172, 0x180
SAYING_READY = ("sh", "-c", 'echo READY; exec "$@"', "sh")
"""It says nothing when it listens, so its client tries until it does."""


@pytest.fixture
async def tcp(tmp_path: Path) -> AsyncIterator[ModbusDeviceOptions]:
    port = ports_in_a_row(1)
    command = [*SAYING_READY, *libmodbus.unit_test_server(), "tcp", port]
    async with Foreign(command, tmp_path / "log"):
        yield ModbusDeviceOptions(host=HOST, port=port, timeout_s=2, max_gap=0)


@pytest.fixture
async def serial(tmp_path: Path) -> AsyncIterator[ModbusDeviceOptions]:
    line = SerialLine(tmp_path)
    line.plug_in()
    command = [*SAYING_READY, *libmodbus.unit_test_server(), "rtu", line.theirs]
    async with Foreign(command, tmp_path / "log"):
        yield ModbusDeviceOptions(
            transport="rtu",
            serial=str(line.ours),
            unit=libmodbus.UNIT,
            baudrate=115_200,
            timeout_s=2,
            max_gap=0,
        )
    line.pull_out()


def registers(*addresses: int) -> list[PointSource]:
    return [PointSource(Point(f"p{at}"), ModbusPointOptions(register=at)) for at in addresses]


async def read(options: ModbusDeviceOptions, points: list[PointSource]) -> Columns:
    """Read once; the server serves one client, and may not listen yet."""
    found: list[Columns] = []

    async def is_read() -> bool:
        try:
            async with ModbusDriver(options) as driver:
                found.append(await driver.read(driver.plan(points)))
        except LinkLost:
            return False
        return True

    await eventually(is_read, "a read")
    return found[0]


async def test_what_the_device_does_wrong_costs_its_own_points(tcp: ModbusDeviceOptions) -> None:
    await look_at(tcp)


async def test_so_it_does_on_a_serial_line(serial: ModbusDeviceOptions) -> None:
    await look_at(serial)


async def look_at(options: ModbusDeviceOptions) -> None:
    """Read a short answer, a good one, a busy one, a late one, and one beyond the end."""
    short = PointSource(Point("short"), ModbusPointOptions(register=REGISTERS, type="uint32"))
    points = [short, *registers(REGISTERS + 5, BUSY, LATE, END)]

    columns = await read(options, points)

    assert [reason_of(int(quality)) for quality in columns.quality] == [
        Reason.SHORT_ANSWER,
        Reason.NONE,
        Reason.DEVICE_EXCEPTION,
        Reason.NONE,
        Reason.WRONG_ADDRESS,
    ]
    assert columns.value[[1, 3]].tolist() == [0.0, 0.0]


async def test_an_answer_with_another_transaction_id_is_never_taken(
    tcp: ModbusDeviceOptions,
) -> None:
    async def is_up() -> bool:
        try:
            async with ModbusDriver(tcp) as driver:
                await driver.read(driver.plan(registers(REGISTERS)))
                with pytest.raises(LinkLost, match="transaction id"):
                    await driver.read(driver.plan(registers(WRONG_TRANSACTION)))
        except LinkLost:
            return False
        return True

    await eventually(is_up, "the server")
