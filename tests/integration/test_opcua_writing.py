"""Writing in the server's own type, and reading it back, against Eclipse Milo."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import PointType
from shared.quality import GOOD
from tests.servers.milo import Milo
from tests.servers.opcua import OpcuaServer
from tests.servers.opcua_points import HELLO, source

pytest_plugins = ["tests.servers.opcua_fixtures"]
pytestmark = pytest.mark.integration

NUMBER, TEXT = PointType.NUMBER, PointType.TEXT
SCALARS: Final = (
    ("Boolean", NUMBER, 1.0), ("SByte", NUMBER, -128.0), ("Byte", NUMBER, 255.0),
    ("Int16", NUMBER, -32_768.0), ("UInt16", NUMBER, 65_535.0), ("Int32", NUMBER, -2.0**31),
    ("UInt32", NUMBER, 2.0**32 - 1), ("Int64", NUMBER, -(2.0**53)), ("UInt64", NUMBER, 2.0**53),
    ("Float", NUMBER, 0.5), ("Double", NUMBER, 21.7), ("Duration", NUMBER, 2_500.0),
    ("DateTime", NUMBER, 1_700_000_000.5), ("UtcTime", TEXT, "2024-02-29T12:00:00Z"),
    ("String", TEXT, "ä\n"), ("Guid", TEXT, "12345678-1234-5678-1234-567812345678"),
    ("ByteString", TEXT, "AP8="), ("XmlElement", TEXT, "<a/>"), ("NodeId", TEXT, "ns=2;s=x"),
    ("QualifiedName", TEXT, "name"), ("LocalizedText", TEXT, "warm"), ("Integer", NUMBER, -5.0),
    ("UInteger", NUMBER, 5.0), ("Variant", NUMBER, 7.0),
)  # fmt: skip
ELEMENTS: Final = tuple(
    one
    for one in SCALARS
    if one[0] not in {"Duration", "UtcTime", "Integer", "UInteger", "Variant"}
)


@pytest.fixture
async def driver(milo: Milo) -> AsyncIterator[OpcuaDriver]:
    async with OpcuaDriver(OpcuaDevice(url=milo.url)) as driver:
        yield driver


@pytest.mark.parametrize(("name", "kind", "value"), SCALARS)
async def test_every_scalar_type_is_written_and_read_back(
    driver: OpcuaDriver, name: str, kind: PointType, value: float | str
) -> None:
    point = source(kind, node=f"{HELLO}/ScalarTypes/{name}")
    await driver.write(point, value)
    columns = await driver.read(driver.plan([point]))
    assert columns.quality.tolist() == [GOOD]
    assert (columns.texts[0] if kind is TEXT else columns.value[0]) == value


@pytest.mark.parametrize(("name", "kind", "value"), ELEMENTS)
async def test_one_element_of_an_array_is_written_and_the_others_stay(
    driver: OpcuaDriver, name: str, kind: PointType, value: float | str
) -> None:
    node = f"{HELLO}/ArrayTypes/{name}Array"
    first, second = (source(kind, node=node, index=str(index)) for index in (0, 1))
    before = await driver.read(driver.plan([first]))
    await driver.write(second, value)
    columns = await driver.read(driver.plan([first, second]))
    assert columns.quality.tolist() == [GOOD] * 2
    assert (columns.texts[1] if kind is TEXT else columns.value[1]) == value
    assert columns.texts.get(0) == before.texts.get(0)
    assert kind is TEXT or columns.value[0] == before.value[0]


async def test_a_large_integer_is_written_exactly_from_its_digits(driver: OpcuaDriver) -> None:
    point = source(node=f"{HELLO}/ScalarTypes/UInt64")
    await driver.write(point, str(2**64 - 1))
    assert (await driver.read(driver.plan([point]))).value[0] == 2.0**64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Byte", 256.0),
        ("SByte", -129.0),
        ("UInt16", -1.0),
        ("Int32", 0.5),
        ("Int32", float("nan")),
        ("Float", 1e39),
        ("Double", "warm"),
        ("Boolean", 2.0),
        ("String", 5.0),
        ("Guid", "none"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_sent(
    driver: OpcuaDriver, name: str, value: float | str
) -> None:
    point = source(node=f"{HELLO}/ScalarTypes/{name}")
    before = await driver.read(driver.plan([point]))
    with pytest.raises(OptionsWrong, match=r"^point: "):
        await driver.write(point, value)
    after = await driver.read(driver.plan([point]))
    assert after.observed_at.tolist() == before.observed_at.tolist()


async def test_what_cannot_be_written_so_says_why(driver: OpcuaDriver) -> None:
    array, scalar = f"{HELLO}/ArrayTypes/Int32Array", f"{HELLO}/ScalarTypes/Int32"
    wrong = {
        "gives nothing back": (source(node=scalar), None),
        "an array of 5: set index": (source(node=array), 1.0),
        "no single element for index 99": (source(node=array, index="99"), 1.0),
        "no single element for index 0": (source(node=scalar, index="0"), 1.0),
    }
    for problem, (point, value) in wrong.items():
        with pytest.raises(OptionsWrong, match=problem):
            await driver.write(point, value)
    refused = (f"{HELLO}/OnlyAdminCanWrite/String", f"{HELLO}/Dynamic/Double", f"{HELLO}/nowhere")
    for node in refused:
        with pytest.raises(Refused):
            await driver.write(source(node=node), "x" if "String" in node else 1.0)


@pytest.fixture
async def heedless() -> AsyncIterator[OpcuaServer]:
    """asyncua's server heeds no index: it would replace an array by one element."""
    server = OpcuaServer()
    await server.start()
    await server.add("array", [1.0, 2.0, 3.0])
    await server._nodes["array"].set_writable()
    yield server
    await server.close()


async def test_an_element_is_never_taken_for_the_whole_array(heedless: OpcuaServer) -> None:
    point = source(node="ns=2;s=array", index="1")
    async with OpcuaDriver(OpcuaDevice(url=heedless.url)) as driver:
        with pytest.raises(OptionsWrong, match="no single element"):
            await driver.write(point, 5.0)
        await heedless.stop()
        with pytest.raises(LinkLost):
            await driver.write(point, 5.0)
