"""A SunSpec inverter served by modbus-serial: found, browsed, and read without one difference."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from protocols.driver import Node, PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from shared.columns import Columns
from shared.errors import OptionsWrong, Refused
from shared.model import Point, PointType
from shared.quality import QualityClass, class_of
from tests.servers.foreign import Foreign
from tests.servers.modbus import HOST
from tests.servers.modbus_serial import modbus_serial
from tests.servers.ports import ports_in_a_row
from tests.servers.sunspec_device import Expected, SunspecDevice, sunspec_device

UNITS = {1: 40_000, 2: 49_999, 3: 0}
"""Where the device's registers begin, by unit."""
UNPUBLISHED = 64_999


@pytest.fixture(scope="module")
def oracle() -> SunspecDevice:
    return sunspec_device()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Serve the inverter as unit 1, moved as units 2 and 3, and a device of another kind as 4."""
    found = ports_in_a_row(1)
    async with modbus_serial(found, tmp_path / "log") as server:
        for unit, start in UNITS.items():
            await server.tell(unit=unit, put=sunspec_device(start).registers)
        await server.tell(unit=4, put={0: 1, 1: 2})
        await serve_odd_models(server)
        yield found


async def serve_odd_models(server: Foreign) -> None:
    """Serve as unit 5 a model nobody published, one that is cut short, and no end."""
    device = SunspecDevice()
    at = device.put(40_000, b"SunS")
    at = device.put(at, UNPUBLISHED.to_bytes(2, "big") + b"\0\x02" + b"\0" * 4)
    device.put(at, b"\0\x67" + b"\0\x04" + b"\0\x10" + b"\xff\xff" * 2 + b"\0\x20")
    await server.tell(unit=5, put=device.registers)


def options(port: int, unit: int = 1) -> ModbusDeviceOptions:
    return ModbusDeviceOptions(host=HOST, port=port, unit=unit, timeout_s=10, order="cdab")


async def nodes_of(driver: ModbusDriver, limit: int = 50) -> dict[int, list[Node]]:
    """Give all points of the device by the address of their model."""
    found: dict[int, list[Node]] = {}
    for model in (await driver.browse()).nodes:
        nodes = found[int(model.id)] = []
        cursor = "0"
        while cursor and model.has_children:
            page = await driver.browse(model.id, cursor, limit)
            nodes += page.nodes
            cursor = page.cursor
    return found


def sources(nodes: Mapping[int, list[Node]]) -> dict[int, PointSource]:
    """Give the proposed points by the address of their registers."""
    found = {}
    for several in nodes.values():
        for node in several:
            assert node.source is not None
            point = ModbusPointOptions.model_validate(node.source)
            found[point.register_] = PointSource(Point(node.key, node.unit, node.type), point)
    return found


def difference(expected: Expected, columns: Columns, row: int) -> str | None:
    """Say how a reading differs from what it must be."""
    klass = class_of(int(columns.quality[row]))
    value = columns.texts.get(row, columns.value[row])
    if expected.value is None or not expected.is_scale_told:
        is_nothing = np.isnan(columns.value[row]) and row not in columns.texts
        is_right = klass is QualityClass.BAD and is_nothing
    elif isinstance(expected.value, str):
        is_right = klass is QualityClass.GOOD and value == expected.value
    else:
        is_right = klass is QualityClass.GOOD and value == pytest.approx(expected.value, rel=1e-12)
    return None if is_right else f"{expected}: {value} {klass.name}"


@pytest.mark.parametrize("unit", UNITS)
async def test_every_point_that_browsing_proposes_reads_as_the_oracle_says(
    port: int, unit: int
) -> None:
    oracle = sunspec_device(UNITS[unit])
    async with ModbusDriver(options(port, unit)) as driver:
        proposed = sources(await nodes_of(driver))
        points = [proposed[expected.address] for expected in oracle.points]
        columns = await driver.read(driver.plan(points))

    differences = [difference(one, columns, row) for row, one in enumerate(oracle.points)]
    assert [one for one in differences if one is not None] == []
    assert len(proposed) == len(oracle.points) == 366
    fixed = [one for one in oracle.points if not one.is_repeated]
    assert (len(oracle.registers), oracle.models) == (614, 14)
    assert len(fixed) == 238
    assert sum(one.value is None for one in fixed) == 87
    assert all(one.is_scale_told for one in fixed if one.value is not None)


async def test_the_comparison_finds_one_wrong_scale(port: int, oracle: SunspecDevice) -> None:
    async with ModbusDriver(options(port)) as driver:
        proposed = sources(await nodes_of(driver))
        scaled = next(one for one in oracle.points if (one.model, one.name) == (701, "A"))
        right = proposed[scaled.address].options
        wrong = right.model_copy(update={"scale_register": None})
        columns = await driver.read(driver.plan([PointSource(Point("a"), wrong)]))

    assert difference(scaled, columns, 0) is not None


async def test_keys_are_unique_and_can_be_points_keys(port: int) -> None:
    async with ModbusDriver(options(port)) as driver:
        keys = [node.key for several in (await nodes_of(driver)).values() for node in several]

    assert len(keys) == len(set(keys)) == 366
    assert all(Point(key).key for key in keys)


async def test_models_are_folders_and_their_points_tell_unit_type_and_value(port: int) -> None:
    async with ModbusDriver(options(port)) as driver:
        models = (await driver.browse()).nodes
        nodes = {
            node.name: node for several in (await nodes_of(driver)).values() for node in several
        }

    assert models[0].name == "1 Common"
    assert all(model.has_children for model in models)
    assert nodes["Mn"].type is PointType.TEXT
    assert nodes["Mn"].value == "SunSpecTest"
    assert nodes["LLV"].unit == "V"
    assert nodes["LLV"].value == "240"
    assert nodes["InvSt"].value == ""
    assert "values: 0 " in nodes["ACType"].description


async def test_a_device_without_models_says_what_to_do_instead(port: int) -> None:
    async with ModbusDriver(options(port, 4)) as driver:
        with pytest.raises(Refused, match="use a template"):
            await driver.browse()


async def test_an_unpublished_model_is_passed_over_and_a_short_one_told_as_far_as_it_goes(
    port: int,
) -> None:
    async with ModbusDriver(options(port, 5)) as driver:
        unknown, short = (await driver.browse()).nodes
        nodes = (await driver.browse(short.id)).nodes
        nothing = (await driver.browse(unknown.id)).nodes

    assert not unknown.has_children
    assert nothing == ()
    assert [node.name for node in nodes] == ["ID", "L", "A", "AphA", "AphB", "AphC"]
    assert [node.key for node in nodes[2:]] == [
        "inverter/ac_current",
        "inverter/ac_current_l1",
        "inverter/ac_current_l2",
        "inverter/ac_current_l3",
    ]
    assert nodes[2].source is None, "its scale factor lies beyond the end"


@pytest.mark.parametrize(("parent", "cursor"), [("40001", ""), ("x", ""), ("", "x"), ("", "-1")])
async def test_a_folder_or_cursor_that_is_none_is_refused(
    port: int, parent: str, cursor: str
) -> None:
    async with ModbusDriver(options(port)) as driver:
        with pytest.raises(OptionsWrong, match="take it from"):
            await driver.browse(parent, cursor)
