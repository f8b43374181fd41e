"""Units that share a link: one request in flight, fair turns, writes between, dead ones apart."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus import bus as buses
from protocols.modbus.turns import Turns
from shared.errors import LinkLost, OptionsWrong
from shared.model import Point
from tests.servers.modbus import HOST, RegisterServer, Request, scripted_server
from tests.servers.serial_line import SerialLine

POINT = [PointSource(Point("p"), ModbusPointOptions(register=7))]
FAR_APART = [
    PointSource(Point(f"p{nth}"), ModbusPointOptions(register=200 * nth)) for nth in range(9)
]


@dataclass
class Converter:
    """A converter with units behind it, of which some are dead."""

    dead: set[int] = field(default_factory=set)
    delay_s: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    port: int = 0

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.asked.append((request.unit, request.function))
        self.connections.add(id(writer))
        if request.unit in self.dead:
            return
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if request.function == 6:
            writer.write(request.frame(bytes([6]) + bytes([0, request.start, 0, request.count])))
        else:
            writer.write(request.counting())


@asynccontextmanager
async def converter(dead: Sequence[int] = (), delay_s: float = 0.0) -> AsyncIterator[Converter]:
    made = Converter(set(dead), delay_s)
    async with scripted_server(made.answer) as port:
        made.port = port
        yield made


def driver(port: int, unit: int, timeout_s: float = 5.0) -> ModbusDriver:
    return ModbusDriver(ModbusDeviceOptions(host=HOST, port=port, unit=unit, timeout_s=timeout_s))


async def value(of: ModbusDriver) -> float:
    return float((await of.read(of.plan(POINT))).value[0])


async def test_units_share_one_connection_and_one_request_is_in_flight() -> None:
    async with converter(delay_s=0.002) as site, AsyncExitStack() as stack:
        units = [await stack.enter_async_context(driver(site.port, nth)) for nth in range(1, 9)]
        for _ in range(3):
            assert await asyncio.gather(*map(value, units)) == [7.0] * 8
    assert len(site.connections) == 1
    assert [unit for unit, _ in site.asked] == list(range(1, 9)) * 3, "first come, first served"


async def test_a_write_goes_between_the_requests_of_a_read() -> None:
    async with converter(delay_s=0.01) as site, driver(site.port, 1) as one:
        reading = asyncio.ensure_future(one.read(one.plan(FAR_APART)))
        while len(site.asked) < 2:  # noqa: ASYNC110 - it happens in the server's task
            await asyncio.sleep(0.001)
        await one.write(POINT[0], 3)
        assert not reading.done()
        assert len((await reading).value) == 9
    functions = [function for _, function in site.asked]
    assert functions.count(3) == 9
    assert functions.index(6) <= 3


async def polled(port: int, units: Sequence[int], seconds: float) -> dict[int, int]:
    """Read each unit as often as it answers, as the collector would: tries again after a pause."""
    counts = dict.fromkeys(units, 0)

    async def poll(unit: int) -> None:
        while True:
            try:
                async with driver(port, unit, timeout_s=0.2) as one:
                    while True:
                        await value(one)
                        counts[unit] += 1
                        await asyncio.sleep(0.05)
            except LinkLost:
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(poll(unit)) for unit in units]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counts


async def test_half_the_units_of_a_bus_are_dead_and_the_others_keep_their_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units, dead = range(1, 11), range(6, 11)
    async with converter(dead) as site:
        counts = await polled(site.port, units, 8.0)
        probes = [unit for unit, _ in site.asked if unit in site.dead]
    monkeypatch.setattr(buses, "DEAD_SHARE", 1.0)
    async with converter(dead) as site:
        control = await polled(site.port, units, 8.0)
    alive, starved = (sum(each[unit] for unit in range(1, 6)) for each in (counts, control))
    assert set(probes) == site.dead, "a dead unit is asked again"
    assert len(probes) * 0.2 < 8.0 / 2
    assert alive > 3 * starved, (counts, control)
    assert min(counts[unit] for unit in range(1, 6)) > alive / 5 / 2


async def test_a_unit_that_comes_back_is_read_again() -> None:
    async with converter([2]) as site:
        polling = asyncio.create_task(polled(site.port, [1, 2], 6.0))
        await asyncio.sleep(1.0)
        site.dead.clear()
        counts = await polling
    assert counts[2] > 0


async def test_a_link_of_which_no_unit_answers_is_lost() -> None:
    async with (
        converter([1, 2]) as site,
        driver(site.port, 1, 0.1) as one,
        driver(site.port, 2, 0.1) as two,
    ):
        with pytest.raises(LinkLost, match="unit 1: no answer"):
            await value(one)
        with pytest.raises(LinkLost, match="no answer within"):
            await value(two)
        site.dead.clear()
        with pytest.raises(LinkLost):
            await value(two)
    async with converter() as site, driver(site.port, 1) as one:
        assert await value(one) == 7.0


async def test_units_that_set_up_one_line_differently_are_told() -> None:
    async with converter() as site, driver(site.port, 1):
        other = ModbusDeviceOptions(host=HOST, port=site.port, unit=2, transport="rtu_over_tcp")
        with pytest.raises(OptionsWrong, match="rtu_over_tcp; make them the same"):
            await ModbusDriver(other).__aenter__()


async def test_noise_on_a_serial_line_costs_one_answer_and_not_the_line(tmp_path: Path) -> None:
    line = SerialLine(tmp_path)
    server = RegisterServer(serial=line)
    await server.start()
    server.put("holding", 7, [42])
    options = [
        ModbusDeviceOptions(transport="rtu", serial=str(line.ours), unit=unit, timeout_s=0.3)
        for unit in (1, 9)
    ]
    async with ModbusDriver(options[0]) as one, ModbusDriver(options[1]):
        assert await value(one) == 42
        line.noise = b"\x01\x55\xaa"
        with pytest.raises(LinkLost, match="unit 1: no answer within"):
            await value(one)
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            try:
                assert await value(one) == 42
                break
            except LinkLost:
                await asyncio.sleep(0.05)
        else:
            pytest.fail("the unit is not read again")
    await server.stop()


async def test_a_serial_line_that_is_not_there_says_what_to_look_at() -> None:
    options = ModbusDeviceOptions(transport="rtu", serial="/dev/no-such-line")
    with pytest.raises(LinkLost, match="group dialout"):
        await ModbusDriver(options).__aenter__()


async def test_turns_are_fair_urgent_first_and_survive_cancelling() -> None:
    turns, order, may_go = Turns(), list[str](), asyncio.Event()

    async def take(name: str, *, is_urgent: bool = False) -> None:
        async with turns.turn(is_urgent=is_urgent):
            order.append(name)
            await may_go.wait()

    tasks = [asyncio.create_task(take(name)) for name in "abcd"]
    tasks.append(asyncio.create_task(take("urgent", is_urgent=True)))
    await asyncio.sleep(0)
    tasks[2].cancel()
    may_go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "urgent", "b", "d"]
    await asyncio.wait_for(take("again"), 5)


@pytest.fixture(autouse=True)
def no_bus_left() -> Iterator[None]:
    """Every test leaves the buses it joined."""
    yield
    assert not [bus for bus in buses.Bus._all.values() if bus.units]
