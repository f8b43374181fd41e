"""Browsing servers of two other stacks, a page at a time."""

from typing import Any

import pytest

from protocols.driver import Node
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.testing.rig import closed_port
from shared.errors import LinkLost, OptionsWrong
from shared.model import PointType
from shared.quality import GOOD
from tests.servers.milo import Milo
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.opcua_points import HELLO, source

pytest_plugins = ["tests.servers.opcua_fixtures"]
pytestmark = pytest.mark.integration


async def pages(driver: OpcuaDriver, parent: str, limit: int) -> list[tuple[Node, ...]]:
    found, cursor = [], ""
    while True:
        page = await driver.browse(parent, cursor, limit)
        found.append(page.nodes)
        if not page.cursor:
            return found
        cursor = page.cursor


async def child(driver: OpcuaDriver, parent: str, name: str) -> Node:
    (found,) = [
        one for page in await pages(driver, parent, 200) for one in page if one.name == name
    ]
    return found


async def test_a_large_folder_comes_in_pages_of_all_its_nodes(node_opcua_server: NodeOpcua) -> None:
    async with OpcuaDriver(OpcuaDevice(url=node_opcua_server.url)) as driver:
        building = await child(driver, "", "Building")
        found = await pages(driver, building.id, 800)
    names = [node.name for page in found for node in page]
    assert max(len(page) for page in found) <= 800
    assert names == [f"Room{index}.Temp" for index in range(5_000)]


async def test_a_page_goes_on_over_another_connection(node_opcua_server: NodeOpcua) -> None:
    device = OpcuaDevice(url=node_opcua_server.url)
    async with OpcuaDriver(device) as driver:
        building = await child(driver, "", "Building")
        first = await driver.browse(building.id, "", 7)
        await driver.browse(building.id, "", 3)  # another list in between
        second = await driver.browse(building.id, first.cursor, 7)
    async with OpcuaDriver(device) as driver:
        again = await driver.browse(building.id, first.cursor, 7)
    assert [node.name for node in second.nodes] == [f"Room{index}.Temp" for index in range(7, 14)]
    assert again.nodes == second.nodes
    assert again.cursor == second.cursor


async def test_what_is_proposed_can_be_read_as_it_is(milo: Milo) -> None:
    async with OpcuaDriver(OpcuaDevice(url=milo.url)) as driver:
        found = [
            node
            for folder in ("ScalarTypes", "ArrayTypes")
            for page in await pages(driver, f"{HELLO}/{folder}", 10)
            for node in page
        ]
        assert len({node.key for node in found}) == len(found)
        columns = await driver.read(
            driver.plan([source(node.type, **dict(node.source or {})) for node in found])
        )
    qualities = dict(zip([node.name for node in found], columns.quality.tolist(), strict=True))
    assert {name for name, quality in qualities.items() if quality != GOOD} <= {"Variant"}
    kinds = {node.name: node.type for node in found}
    assert kinds["Double"] is PointType.NUMBER
    assert kinds["String"] is PointType.TEXT


async def test_nodes_tell_access_value_key_and_form(milo: Milo) -> None:
    async with OpcuaDriver(OpcuaDevice(url=milo.url)) as driver:
        double = await child(driver, f"{HELLO}/ScalarTypes", "Double")
        dynamic = await child(driver, f"{HELLO}/Dynamic", "Double")
        array = await child(driver, f"{HELLO}/ArrayTypes", "Int32Array")
        struct = await child(driver, HELLO, "CustomStructTypeVariable")
        folder = await child(driver, "", "HelloWorld")
    assert double.key == "helloworld/scalartypes/double"
    assert (double.is_writable, dynamic.is_writable) == (True, False)
    assert float(dynamic.value) >= 0
    assert (array.value, dict(array.source or {})["index"]) == ("5 elements", "0")
    assert (struct.source, folder.source) == (None, None)
    assert folder.has_children


async def test_an_id_that_is_a_number_is_proposed_with_its_path(
    node_opcua_server: NodeOpcua,
) -> None:
    async with OpcuaDriver(OpcuaDevice(url=node_opcua_server.url)) as driver:
        pump = await child(driver, (await child(driver, "", "Plant")).id, "Pump")
        room = await child(driver, (await child(driver, "", "Building")).id, "Room0.Temp")
    wanted: dict[str, Any] = {"node": f"nsu={NAMESPACE};i=9000", "path": "/Objects/Plant/Pump"}
    assert pump.source == wanted
    assert room.source == {"node": f"nsu={NAMESPACE};s=Room0.Temp"}
    OpcuaPoint.model_validate(pump.source)


@pytest.mark.parametrize(
    ("parent", "cursor", "problem"),
    [
        ("nonsense", "", "is no node id"),
        ("nsu=urn:nobody;s=x", "", "no such namespace"),
        ("ns=2;s=nowhere", "", "cannot be browsed"),
        ("", "next", "is no cursor"),
        ("", "999999", "begin again"),
    ],
)
async def test_a_wrong_parent_or_cursor_is_told(
    milo: Milo, parent: str, cursor: str, problem: str
) -> None:
    async with OpcuaDriver(OpcuaDevice(url=milo.url)) as driver:
        with pytest.raises(OptionsWrong, match=problem):
            await driver.browse(parent, cursor)
        assert (await driver.browse()).nodes


async def test_a_server_is_reached_and_says_who_made_it(milo: Milo) -> None:
    driver = OpcuaDriver(OpcuaDevice(url=milo.url))
    assert await driver.reach() == f"127.0.0.1:{milo.port}"
    async with driver:
        told = await driver.identify()
    assert told["vendor"] == "eclipse"
    assert "milo" in told["model"]
    nobody = OpcuaDriver(OpcuaDevice(url=f"opc.tcp://127.0.0.1:{closed_port()}"))
    with pytest.raises(LinkLost, match="look at host name and port"):
        await nobody.reach()
