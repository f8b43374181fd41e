"""Looking for Modbus devices: at addresses and on a serial line, bounded, and beside what runs."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import pytest
from pymodbus import FramerType

from protocols.driver import Found, PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus.discovery import discover
from protocols.modbus.search import ModbusSearch
from protocols.testing.rig import closed_port, deaf_server
from shared.errors import OptionsWrong
from shared.model import Point
from tests.servers.foreign import Foreign
from tests.servers.modbus import HOST, RegisterServer
from tests.servers.modbus_serial import modbus_serial
from tests.servers.ports import ports_in_a_row
from tests.servers.serial_line import SerialLine
from tests.servers.sunspec_device import sunspec_device


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Serve units 2 (a SunSpec inverter), 5 (which knows no register 0) and 9."""
    found = ports_in_a_row(1)
    async with modbus_serial(found, tmp_path / "log") as server:
        await fill(server)
        yield found


async def fill(server: Foreign) -> None:
    await server.tell(unit=2, put=sunspec_device().registers)
    await server.tell(unit=5, put={7: 1})
    await server.tell(unit=9, put={0: 1})


async def found_by(progress: list[float] | None = None, **options: Any) -> list[Found]:
    search = ModbusSearch.model_validate({"requests_per_s": 1_000, "timeout_s": 2, **options})
    shown: list[float] = [] if progress is None else progress
    async with aclosing(discover(search, shown.append)) as looking:
        return [one async for one in looking]


async def test_units_that_answer_are_found_and_told_apart(port: int) -> None:
    progress: list[float] = []
    found = await found_by(progress, hosts=[HOST], port=port)

    assert [one.options for one in found] == [
        {"host": HOST, "port": port, "unit": unit} for unit in (2, 5, 9)
    ]
    inverter = found[0]
    assert inverter.title == f"SunSpecTest Test-1547-1 ({HOST}:{port} unit 2)"
    assert inverter.facts["serial"] == "sn-123456789"
    assert inverter.facts["sunspec"].startswith("1 Common, 701 ")
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


async def test_what_is_found_can_be_read_as_it_is(port: int) -> None:
    found = await found_by(hosts=[HOST], port=port, first_unit=9, last_unit=9)
    point = PointSource(Point("a"), ModbusPointOptions(register=0))

    async with ModbusDriver(ModbusDeviceOptions(**found[0].options)) as driver:
        assert (await driver.read(driver.plan([point]))).value.tolist() == [1.0]


async def test_a_network_is_searched_address_by_address(port: int) -> None:
    progress: list[float] = []
    found = await found_by(progress, hosts=["127.0.0.0/29"], port=port, last_unit=2)

    assert [one.options["host"] for one in found] == [HOST]
    assert progress[-1] == pytest.approx(1.0)


async def test_a_device_that_answers_to_every_unit_is_one_device() -> None:
    async with OneRegisterServer(range(256)) as server:
        found = await found_by(hosts=[HOST], port=server.port, last_unit=20)

    assert [one.options["unit"] for one in found] == [1]


class OneRegisterServer:
    """A device whose register 0 is 7 and which knows nothing else; `units` are its own, or all."""

    def __init__(self, units: Container[int]) -> None:
        self._units = units
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while request := await reader.read(260):
            if request[6] in self._units:
                is_known = request[7:] == b"\x03\0\0\0\x01"
                pdu = b"\x03\x02\0\x07" if is_known else bytes((request[7] | 0x80, 2))
                head = request[:4] + (len(pdu) + 1).to_bytes(2, "big") + request[6:7]
                writer.write(head + pdu)
        writer.close()


@pytest.mark.parametrize("slams", [True, False])
async def test_what_does_not_speak_modbus_is_passed_over(slams: bool) -> None:
    async with deaf_server(slams=slams) as port:
        assert await found_by(hosts=[HOST], port=port, last_unit=3, timeout_s=0.1) == []


async def test_where_nobody_listens_nothing_is_found() -> None:
    progress: list[float] = []

    assert await found_by(progress, hosts=[HOST], port=closed_port()) == []
    assert progress == [1.0]


async def test_a_search_can_be_left_at_every_moment(port: int) -> None:
    before = asyncio.all_tasks()
    search = ModbusSearch(hosts=(HOST,), port=port, last_unit=255, requests_per_s=1_000)
    async with aclosing(discover(search, lambda _: None)) as looking:
        async for _ in looking:
            break

    assert asyncio.all_tasks() == before


async def test_a_running_device_keeps_its_connection_while_others_are_looked_for() -> None:
    point = PointSource(Point("a"), ModbusPointOptions(register=0))
    async with OneRegisterServer({1, 33}) as server:
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=20)
        async with ModbusDriver(options) as running:
            plan = running.plan([point])
            await running.read(plan)
            found = await found_by(
                hosts=[HOST], port=server.port, first_unit=30, last_unit=36, timeout_s=0.2
            )
            columns = await running.read(plan)

    assert [one.options["unit"] for one in found] == [33]
    assert columns.value.tolist() == [7.0]
    assert server.connections == 1


async def test_a_serial_line_is_searched_by_its_settings_too(tmp_path: Path) -> None:
    line = SerialLine(tmp_path)
    server = RegisterServer(FramerType.RTU, line)
    await server.start()
    try:
        found = await found_by(
            serial=str(line.ours), baudrates=[9_600], parities=["none"], last_unit=3, timeout_s=0.3
        )
    finally:
        await server.stop()

    assert [one.options for one in found] == [
        {
            "unit": 1,
            "transport": "rtu",
            "serial": str(line.ours),
            "baudrate": 9_600,
            "parity": "none",
        }
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "nothing to search"),
        ({"hosts": ["8.8.8.8"]}, "no private network"),
        ({"hosts": ["10.0.0.0/16"]}, "at most 256"),
        ({"hosts": ["10.0.0.0/25", "10.0.1.0/24"]}, "more than 256"),
        ({"hosts": ["10.0.0.0/x"]}, "no network"),
        ({"hosts": ["no-such-name.invalid"]}, "neither an address nor a name"),
        ({"hosts": [HOST], "first_unit": 5, "last_unit": 4}, "are none"),
    ],
)
async def test_a_search_that_cannot_be_says_why(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(OptionsWrong, match=problem):
        await found_by(**options)
