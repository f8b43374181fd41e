"""Our reader agrees with pymodbus's client on every type and order, read from the same server."""

import random
import struct
from typing import Any, Literal, get_args

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus.options import BITS, Order, Table, ValueType
from shared.columns import Columns
from shared.model import Point
from shared.quality import GOOD, Reason, bad, reason_of
from tests.servers.modbus import HOST, RegisterServer

COUNT = 40
WITHOUT_REFERENCE = {"bool", "uint8", "int8", "bcd16", "bcd32"}
NUMBERS = [kind for kind in get_args(ValueType) if kind not in WITHOUT_REFERENCE]


def sources(several: list[dict[str, Any]]) -> list[PointSource]:
    return [
        PointSource(Point(f"p{row}"), ModbusPointOptions.model_validate(fields))
        for row, fields in enumerate(several)
    ]


async def read(server: RegisterServer, several: list[dict[str, Any]], **device: Any) -> Columns:
    options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2, **device)
    async with ModbusDriver(options) as driver:
        return await driver.read(driver.plan(sources(several)))


async def reference_registers(server: RegisterServer, table: Table, count: int) -> list[int]:
    client = AsyncModbusTcpClient(HOST, port=server.port)
    await client.connect()
    try:
        ask = client.read_holding_registers
        if table == "input":
            ask = client.read_input_registers
        registers: list[int] = []
        while len(registers) < count:
            several = min(100, count - len(registers))
            registers += (await ask(len(registers), count=several)).registers
        return registers
    finally:
        client.close()


def reference_values(
    registers: list[int], kind: ValueType, word_order: Literal["big", "little"]
) -> list[Any]:
    data_type = AsyncModbusTcpClient.DATATYPE[kind.upper()]
    values = AsyncModbusTcpClient.convert_from_registers(registers, data_type, word_order)
    assert isinstance(values, list)
    return values


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("table", ["holding", "input"])
async def test_every_type_and_order_agrees_with_pymodbus(
    kind: ValueType, order: Order, table: Table
) -> None:
    width = BITS[kind] // 16
    noise = random.Random(f"{kind}{order}")
    async with RegisterServer() as server:
        server.put(table, 0, [noise.randrange(0x10000) for _ in range(COUNT * width)])
        registers = await reference_registers(server, table, COUNT * width)
        columns = await read(
            server,
            [{"table": table, "register": row * width, "type": kind} for row in range(COUNT)],
            order=order,
        )
    if order in {"badc", "dcba"}:  # pymodbus does not swap bytes: swap them before it
        registers = [struct.unpack("<H", struct.pack(">H", word))[0] for word in registers]
    words: Literal["big", "little"] = "little" if order in {"cdab", "dcba"} else "big"
    wanted = np.array(reference_values(registers, kind, words), np.float64)
    wanted[~np.isfinite(wanted)] = np.nan
    assert columns.value.tobytes() == wanted.tobytes()
    assert (columns.quality == GOOD).tolist() == np.isfinite(wanted).tolist()


@pytest.mark.parametrize("table", ["coil", "discrete"])
async def test_bits_agree_with_pymodbus(table: Table) -> None:
    noise = random.Random(7)
    async with RegisterServer() as server:
        server.put(table, 0, [noise.randrange(2) for _ in range(100)])
        client = AsyncModbusTcpClient(HOST, port=server.port)
        await client.connect()
        ask = client.read_coils if table == "coil" else client.read_discrete_inputs
        wanted = (await ask(3, count=70)).bits[:70]
        client.close()
        columns = await read(server, [{"table": table, "register": 3 + row} for row in range(70)])
    assert columns.value.tolist() == [float(bit) for bit in wanted]


async def test_a_bit_of_a_register_is_read() -> None:
    async with RegisterServer() as server:
        server.put("holding", 5, [0b1000_0000_0000_0010])
        columns = await read(
            server, [{"register": 5, "type": "bool", "bit": bit} for bit in range(16)]
        )
    assert columns.value.nonzero()[0].tolist() == [1, 15]


async def test_one_plan_may_mix_tables_types_and_far_addresses() -> None:
    async with RegisterServer() as server:
        server.put("coil", 9, [1])
        server.put("input", 2_000, [0xFFFF, 0xFFFE])
        server.put("holding", 0, [7])
        columns = await read(
            server,
            [
                {"table": "input", "register": 2_000, "type": "int32"},
                {"table": "coil", "register": 9},
                {"register": 0, "scale": 0.1},
                {"table": "coil", "register": 10},
            ],
        )
    assert columns.value.tolist() == [-2.0, 1.0, 0.7, 0.0]
    assert len(server.requests) == 3
    assert len(set(columns.observed_at.tolist())) == 1


async def test_one_unknown_register_costs_its_point_only_and_is_asked_for_again_later() -> None:
    several = [{"register": row} for row in range(100)]
    async with RegisterServer() as server:
        server.unknown.add(("holding", 37))
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2)
        clock = TurnedClock()
        async with ModbusDriver(options, clock=clock) as driver:
            plan = driver.plan(sources(several))
            for _ in range(2):
                server.requests.clear()
                columns = await driver.read(plan)
                assert columns.quality.nonzero()[0].tolist() == [37]
                assert reason_of(int(columns.quality[37])) is Reason.WRONG_ADDRESS
            assert server.requests == [("holding", 0, 37), ("holding", 38, 62)]
            server.unknown.clear()
            clock.monotonic += options.retry_holes_s
            assert not (await driver.read(plan)).quality.any()
            server.requests.clear()
            await driver.read(plan)
            assert server.requests == [("holding", 0, 100)]


async def test_what_a_plan_learned_outlives_a_reconnect() -> None:
    async with RegisterServer() as server:
        server.unknown.add(("holding", 37))
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2)
        plan = ModbusDriver(options).plan(sources([{"register": row} for row in range(100)]))
        for requests in (None, 2):
            server.requests.clear()
            async with ModbusDriver(options) as driver:
                await driver.read(plan)
            assert requests is None or len(server.requests) == requests


async def test_a_device_that_knows_nothing_is_learned_in_bounded_steps() -> None:
    async with RegisterServer() as server:
        server.unknown |= {("holding", row) for row in range(100)}
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2)
        async with ModbusDriver(options) as driver:
            plan = driver.plan(sources([{"register": row} for row in range(100)]))
            most = 0
            for _ in range(10):
                server.requests.clear()
                columns = await driver.read(plan)
                most = max(most, len(server.requests))
                assert {reason_of(int(one)) for one in columns.quality} == {Reason.WRONG_ADDRESS}
            assert most <= 70
            assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "reason", "requests"),
    [
        (ExcCodes.DEVICE_BUSY, Reason.DEVICE_EXCEPTION, 2),
        (ExcCodes.DEVICE_FAILURE, Reason.DEVICE_EXCEPTION, 2),
        (ExcCodes.GATEWAY_NO_RESPONSE, Reason.TIMEOUT, 1),
        (ExcCodes.GATEWAY_PATH_UNAVIABLE, Reason.LINK_DOWN, 1),
    ],
)
async def test_an_exception_is_bad_quality_and_over_when_it_is_over(
    code: ExcCodes, reason: Reason, requests: int
) -> None:
    async with RegisterServer() as server:
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2)
        async with ModbusDriver(options) as driver:
            plan = driver.plan(sources([{"register": 0}, {"register": 1_000}]))
            server.busy = code
            columns = await driver.read(plan)
            assert columns.quality.tolist() == [bad(reason)] * 2
            assert np.isnan(columns.value).all()
            assert len(server.requests) == requests
            server.busy = None
            assert (await driver.read(plan)).quality.tolist() == [GOOD, GOOD]


class TurnedClock:
    """A clock that goes only when it is turned."""

    def __init__(self) -> None:
        self.utc = 1_700_000_000_000_000
        self.monotonic = 0.0

    def now_us(self) -> int:
        return self.utc

    def monotonic_s(self) -> float:
        return self.monotonic


async def test_all_points_of_a_read_carry_the_time_of_the_given_clock() -> None:
    clock = TurnedClock()
    async with RegisterServer() as server:
        options = ModbusDeviceOptions(host=HOST, port=server.port, timeout_s=2)
        async with ModbusDriver(options, clock=clock) as driver:
            columns = await driver.read(driver.plan(sources([{"register": 0}, {"register": 900}])))
    assert columns.observed_at.tolist() == [clock.utc, clock.utc]
