"""One number of a manual, read in every way it may have been meant."""

import struct

import pytest

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus.matrix import Address, addresses, read_matrix
from protocols.modbus.options import Order, Table
from protocols.modbus.writing import write_pdu
from shared.errors import OptionsWrong
from shared.model import Point
from tests.servers.modbus import HOST
from tests.servers.register_device import register_device

pytestmark = pytest.mark.integration


def words(order: Order, kind: str, value: float) -> list[int]:
    """Lay a value out as the driver would write it."""
    point = ModbusPointOptions.model_validate({"register": 0, "type": kind})
    pdu = write_pdu(point, order, value)
    data = pdu[6:] if pdu[0] == 16 else pdu[3:]
    return [word for (word,) in struct.iter_unpack(">H", data)]


@pytest.mark.parametrize(
    ("number", "table", "at"),
    [(100, "input", 100), (101, "input", 100), (30_101, "input", 100), (40_101, "holding", 100)],
)
@pytest.mark.parametrize("order", ["abcd", "cdab", "badc", "dcba"])
async def test_the_right_reading_is_among_the_plausible_ones(
    number: int, table: Table, at: int, order: Order
) -> None:
    laid = dict(enumerate(words(order, "float32", 231.5), at))
    async with (
        register_device({table: laid}) as port,
        ModbusDriver(ModbusDeviceOptions(host=HOST, port=port)) as driver,
    ):
        found = await read_matrix(driver, number, table)
    right = [
        one for one in found if one.type == "float32" and one.order == order and one.value == 231.5
    ]
    assert right
    assert all(one.is_plausible for one in right)
    for one in right:
        wanted = {"table": table, "register": at, "type": "float32", "order": order}
        assert one.source == wanted


async def test_the_source_of_each_candidate_reads_what_was_shown() -> None:
    laid = dict(enumerate([0x4367, 0x8000, 0x1234, 0x0042, 0x0001, 0x0002], 9))
    async with (
        register_device({"holding": laid}) as port,
        ModbusDriver(ModbusDeviceOptions(host=HOST, port=port)) as driver,
    ):
        found = await read_matrix(driver, 10, "holding")
        assert len(found) > 50
        for one in found:
            source = ModbusPointOptions.model_validate(one.source)
            assert (await driver.read(driver.plan([PointSource(Point("cell"), source)]))).value[
                0
            ] == one.value


async def test_registers_that_are_not_there_cost_only_what_needs_them() -> None:
    async with (
        register_device({"holding": {10: 215}}) as port,
        ModbusDriver(ModbusDeviceOptions(host=HOST, port=port)) as driver,
    ):
        found = await read_matrix(driver, 10, "holding")
    assert {one.type for one in found} <= {"uint16", "int16", "bcd16"}
    assert 215.0 in {one.value for one in found}


def test_a_number_is_read_in_every_notation() -> None:
    assert addresses(40_001) == [
        Address("4xxxx", "holding", 0),
        Address("from 1", "holding", 40_000),
        Address("from 0", "holding", 40_001),
    ]
    assert addresses(0, "input") == [Address("from 0", "input", 0)]
    assert Address("3xxxxx", "input", 65_535) in addresses(365_536)


@pytest.mark.parametrize(("number", "table"), [(-1, "holding"), (99_999, "input"), (5, "coil")])
def test_what_is_no_address_is_refused(number: int, table: Table) -> None:
    with pytest.raises(OptionsWrong):
        addresses(number, table)
