"""Writing to and identifying a Modbus device, over the wire."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymodbus.constants import ExcCodes

from protocols.driver import PointSource, Probing, Writing
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point
from tests.servers.modbus import HOST, RegisterServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def server() -> AsyncIterator[RegisterServer]:
    async with RegisterServer() as running:
        yield running


def driver(server: RegisterServer) -> ModbusDriver:
    return ModbusDriver(ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=5))


def source(**options: Any) -> PointSource:
    return PointSource(Point("meter/x"), ModbusPointOptions.model_validate(options))


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"register": 7, "type": "int16", "scale": 0.1}, -12.3),
        ({"register": 8, "type": "uint32", "order": "cdab"}, 70_000.0),
        ({"register": 8, "type": "float64", "order": "dcba"}, 21.5),
        ({"register": 20, "type": "bcd32", "order": "badc"}, 12_345_678.0),
        ({"register": 3, "table": "coil"}, 1.0),
    ],
)
async def test_what_is_written_is_read(
    server: RegisterServer, options: dict[str, Any], value: float
) -> None:
    point = source(**options)
    async with driver(server) as opened:
        assert isinstance(opened, Writing)
        await opened.write(point, value)
        assert (await opened.read(opened.plan([point]))).value.tolist() == [value]


async def test_a_device_that_says_no_is_refused_and_the_link_goes_on(
    server: RegisterServer,
) -> None:
    point = source(register=1)
    async with driver(server) as opened:
        server.busy = ExcCodes.DEVICE_BUSY
        with pytest.raises(Refused, match="busy"):
            await opened.write(point, 5.0)
        server.busy = None
        await opened.write(point, 6.0)
        assert (await opened.read(opened.plan([point]))).value.tolist() == [6.0]


async def test_what_modbus_cannot_do_is_said(server: RegisterServer) -> None:
    async with driver(server) as opened:
        for value in (None, "on"):
            with pytest.raises(OptionsWrong, match="meter/x"):
                await opened.write(source(register=1), value)


async def test_a_write_without_a_link_is_a_lost_link(server: RegisterServer) -> None:
    async with driver(server) as opened:
        await server.stop()
        with pytest.raises(LinkLost):
            await opened.write(source(register=1), 1.0)
    with pytest.raises(LinkLost):
        await driver(server).write(source(register=1), 1.0)


async def test_a_device_is_reached_and_says_who_it_is(server: RegisterServer) -> None:
    opened = driver(server)
    assert isinstance(opened, Probing)
    assert await opened.reach() == f"{HOST}:{server.port}"
    async with opened:
        told = await opened.identify()
    assert set(told) <= {"vendor", "model", "serial", "version", "name"}
    await server.stop()
    with pytest.raises(LinkLost, match=str(server.port)):
        await opened.reach()
