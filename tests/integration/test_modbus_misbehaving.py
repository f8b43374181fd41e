"""Devices that answer late, short, torn, twice, with the wrong id, or with nonsense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus.bus import Bus
from shared.errors import LinkLost
from shared.model import Point
from shared.quality import GOOD, Reason, bad
from tests.servers.modbus import HOST, Request, Script, scripted_server

POINTS = [PointSource(Point(f"p{row}"), ModbusPointOptions(register=row)) for row in range(4)]
VALUES = [0.0, 1.0, 2.0, 3.0]


def always(make: Callable[[Request], bytes]) -> Script:
    async def script(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(make(request))

    return script


@asynccontextmanager
async def reading(script: Script, timeout_s: float = 5) -> AsyncIterator[ModbusDriver]:
    async with scripted_server(script) as port:
        options = ModbusDeviceOptions(host=HOST, port=port, timeout_s=timeout_s)
        async with ModbusDriver(options) as driver:
            with anyio.fail_after(20):
                yield driver


async def read(driver: ModbusDriver) -> tuple[list[float], list[int]]:
    columns = await driver.read(driver.plan(POINTS))
    return columns.value.tolist(), columns.quality.tolist()


async def test_an_answer_byte_by_byte_is_put_together() -> None:
    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in request.counting():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with reading(drip) as driver:
        for _ in range(3):
            assert await read(driver) == (VALUES, [GOOD] * 4)


async def test_an_answer_that_comes_twice_is_taken_once() -> None:
    async with reading(always(lambda request: request.counting() * 2)) as driver:
        for _ in range(5):
            assert await read(driver) == (VALUES, [GOOD] * 4)


async def test_an_answer_to_another_request_is_dropped() -> None:
    def foreign_first(request: Request) -> bytes:
        wrong = request.frame(b"\x03\x08" + b"\xff" * 8, transaction=request.transaction ^ 0x8000)
        return wrong + request.counting()

    async with reading(always(foreign_first)) as driver:
        for _ in range(3):
            assert await read(driver) == (VALUES, [GOOD] * 4)


async def test_only_foreign_answers_are_a_lost_link_that_says_so() -> None:
    def foreign(request: Request) -> bytes:
        return request.frame(b"\x03\x08" + b"\xff" * 8, transaction=request.transaction + 7)

    async with reading(always(foreign), timeout_s=0.2) as driver:
        with pytest.raises(LinkLost, match=r"no answer within 0\.2 s .*transaction id 8 instead"):
            await read(driver)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda request: request.answer([1, 2, 3]), Reason.SHORT_ANSWER),
        (lambda request: request.answer([]), Reason.SHORT_ANSWER),
        (lambda request: request.answer([1, 2, 3, 4, 5]), Reason.BAD_PAYLOAD),
        (lambda request: request.frame(b"\x03\x08\x00\x01"), Reason.SHORT_ANSWER),
        (lambda request: request.frame(b"\x04\x08" + bytes(8)), Reason.BAD_PAYLOAD),
        (lambda request: request.frame(b"\x03\x08" + bytes(250)), Reason.BAD_PAYLOAD),
        (lambda request: request.exception(3), Reason.DEVICE_EXCEPTION),
        (lambda request: request.exception(0xFF), Reason.DEVICE_EXCEPTION),
    ],
)
async def test_an_answer_that_does_not_fit_gives_no_values_and_the_link_lives(
    make: Callable[[Request], bytes], reason: Reason
) -> None:
    spoilt = True

    async def script(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(make(request) if spoilt else request.counting())

    async with reading(script) as driver:
        values, qualities = await read(driver)
        assert [value == value for value in values] == [False] * 4  # noqa: PLR0124 - NaN
        assert qualities == [bad(reason)] * 4
        spoilt = False
        assert await read(driver) == (VALUES, [GOOD] * 4)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(300),
        b"\xff" * 70_000,
        b"\x00\x01\x00\x00\xff\xff\x01",
    ],
)
async def test_bytes_that_are_not_modbus_are_a_lost_link(garbage: bytes) -> None:
    async with reading(always(lambda _: garbage)) as driver:
        with pytest.raises(LinkLost, match="no Modbus answer"):
            await read(driver)
        with pytest.raises(LinkLost):
            await read(driver)


async def test_half_an_answer_and_silence_is_a_lost_link() -> None:
    async with reading(always(lambda request: request.counting()[:9]), timeout_s=0.2) as driver:
        with pytest.raises(LinkLost, match="no answer within"):
            await read(driver)


async def test_a_close_in_the_middle_of_an_answer_is_a_lost_link() -> None:
    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.counting()[:9])
        writer.close()

    async with reading(cut) as driver:
        with pytest.raises(LinkLost, match="closed the connection"):
            await read(driver)


async def test_a_link_that_timed_out_stays_lost_so_a_late_answer_is_never_taken() -> None:
    async def late(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        writer.write(request.counting())

    async with reading(late, timeout_s=0.1) as driver:
        for _ in range(2):
            with pytest.raises(LinkLost, match="no answer within"):
                await read(driver)


async def test_the_late_answer_of_a_cancelled_read_is_waited_for_and_dropped() -> None:
    """The device gets its next request only after it answered: one in flight, always."""
    requests: list[Request] = []
    surplus: list[bytes] = []
    may_answer = asyncio.Event()

    async def stamped(request: Request, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        await may_answer.wait()
        surplus.append(pending_bytes(writer))
        writer.write(request.answer([request.transaction] * request.count))

    async with reading(stamped) as driver:
        first = asyncio.ensure_future(read(driver))
        await until(lambda: len(requests) == 1)
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.ensure_future(read(driver))
        for _ in range(50):
            await asyncio.sleep(0)
        may_answer.set()
        assert (await second)[0] == [2.0] * 4
    assert surplus == [b"", b""]


async def test_a_cancelled_read_makes_no_further_requests() -> None:
    requests: list[int] = []
    may_answer = asyncio.Event()

    async def held(request: Request, writer: asyncio.StreamWriter) -> None:
        requests.append(request.start)
        await may_answer.wait()
        writer.write(request.counting())

    far = PointSource(Point("far"), ModbusPointOptions(register=900))
    async with reading(held) as driver:
        first = asyncio.ensure_future(driver.read(driver.plan([POINTS[0], far])))
        await until(lambda: requests == [0])
        first.cancel()
        await asyncio.wait([first])
        may_answer.set()
        assert (await driver.read(driver.plan([POINTS[3]]))).value.tolist() == [3.0]
    assert requests == [0, 3]


async def test_an_answer_with_half_of_a_stray_one_behind_it_is_told_apart() -> None:
    stray_rest = b""

    async def torn(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal stray_rest
        stray = request.frame(b"\x03\x20" + b"\xff" * 32, transaction=request.transaction ^ 0x8000)
        writer.write(stray_rest + request.counting() + stray[:11])
        stray_rest = stray[11:]

    async with reading(torn) as driver:
        for _ in range(4):
            assert await read(driver) == (VALUES, [GOOD] * 4)


async def test_a_cancelled_read_whose_answer_never_comes_ends_in_a_lost_link() -> None:
    asked = asyncio.Event()

    async def mute(_: Request, __: asyncio.StreamWriter) -> None:
        asked.set()

    async with reading(mute, timeout_s=0.3) as driver:
        first = asyncio.ensure_future(read(driver))
        await asked.wait()
        first.cancel()
        await asyncio.wait([first])
        with pytest.raises(LinkLost, match="no answer within"):
            await read(driver)


async def test_cancelling_at_any_moment_never_shifts_values() -> None:
    async def stamped(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        writer.write(request.answer([request.transaction] * request.count))

    async with reading(stamped) as driver:
        last = 0.0
        for turns in range(40):
            task = asyncio.ensure_future(read(driver))
            for _ in range(turns % 10):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            values, qualities = await read(driver)
            assert len(set(values)) == 1
            assert values[0] > last
            assert qualities == [GOOD] * 4
            last = values[0]


async def test_transaction_ids_wrap_around() -> None:
    async with reading(always(Request.counting)) as driver:
        await read(driver)
        assert driver._line is not None
        connection = driver._line._bus._connection
        assert connection is not None
        connection._transaction = 0xFFFE
        for _ in range(4):
            assert await read(driver) == (VALUES, [GOOD] * 4)
        assert connection._transaction == 2


async def test_exception_2_in_the_middle_of_a_block_costs_one_point() -> None:
    def unknown_two(request: Request) -> bytes:
        inside = request.start <= 2 < request.start + request.count
        return request.exception(2) if inside else request.counting()

    async with reading(always(unknown_two)) as driver:
        plan = driver.plan(POINTS)
        for _ in range(2):
            columns = await driver.read(plan)
            assert columns.value[[0, 1, 3]].tolist() == [0.0, 1.0, 3.0]
            assert columns.quality.tolist() == [GOOD, GOOD, bad(Reason.WRONG_ADDRESS), GOOD]


async def test_a_device_may_take_its_time_after_connecting() -> None:
    async with scripted_server(always(Request.counting)) as port:
        options = ModbusDeviceOptions(host=HOST, port=port, pause_after_connect_s=0.05)
        async with ModbusDriver(options) as driver:
            assert await read(driver) == (VALUES, [GOOD] * 4)


async def test_a_cancelled_pause_closes_the_connection() -> None:
    async with scripted_server(always(Request.counting)) as port:
        options = ModbusDeviceOptions(host=HOST, port=port, pause_after_connect_s=30)
        driver = ModbusDriver(options)
        opening = asyncio.ensure_future(driver.__aenter__())
        name = (id(asyncio.get_running_loop()), f"{HOST}:{port}")
        await until(lambda: name in Bus._all and Bus._all[name]._connection is not None)
        bus = Bus._all[name]
        opening.cancel()
        await asyncio.wait([opening])
        assert (bus._connection, bus.units, driver._line) == (None, 0, None)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid", "exa mple"])
async def test_a_name_that_cannot_be_looked_up_is_a_lost_link(host: str) -> None:
    driver = ModbusDriver(ModbusDeviceOptions(host=host, connect_timeout_s=10))
    with pytest.raises(LinkLost, match="Modbus"):
        await driver.__aenter__()


def pending_bytes(writer: asyncio.StreamWriter) -> bytes:
    """Look what has come after the request that is being answered."""
    reader: asyncio.StreamReader = writer.transport.get_protocol()._stream_reader  # type: ignore[attr-defined]
    return bytes(reader._buffer)  # type: ignore[attr-defined]


async def until(happens: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not happens():  # noqa: ASYNC110 - it happens in the server's task
            await asyncio.sleep(0.001)

    await bounded(wait())


async def bounded(wait: Awaitable[None]) -> None:
    with anyio.fail_after(20):
        await wait
