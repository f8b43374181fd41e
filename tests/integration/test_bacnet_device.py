"""The BACnet driver and a device: status flags, priorities, texts, browsing, who it is."""

from collections.abc import AsyncIterator

import pytest

from protocols.bacnet import BacnetDevice, BacnetDriver, BacnetPoint
from protocols.bacnet.driver import discover
from protocols.bacnet.options import BacnetSearch, ObjectName
from protocols.driver import PointSource
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point, PointType
from shared.quality import Flag, QualityClass, Reason, class_of, flags_of, reason_of
from tests.servers.bacnet import HOST, INSTANCE, BacnetServer

SETPOINT = PointSource(Point("setpoint"), BacnetPoint(object="analog-value", instance=1))
FAN = PointSource(
    Point("fan", type=PointType.BOOLEAN), BacnetPoint(object="binary-value", instance=1)
)
MODE = PointSource(
    Point("mode", type=PointType.TEXT), BacnetPoint(object="characterstring-value", instance=1)
)


@pytest.fixture
async def server() -> AsyncIterator[BacnetServer]:
    async with BacnetServer() as running:
        yield running


@pytest.fixture
async def driver(server: BacnetServer) -> AsyncIterator[BacnetDriver]:
    async with BacnetDriver(options(server)) as connected:
        yield connected


def options(server: BacnetServer, **more: int) -> BacnetDevice:
    return BacnetDevice.model_validate({"host": HOST, "port": server.port, **more})


async def test_numbers_booleans_and_texts_are_read(driver: BacnetDriver) -> None:
    columns = await driver.read(driver.plan([SETPOINT, FAN, MODE]))

    assert columns.value[:2].tolist() == [21.0, 0.0]
    assert columns.texts == {2: "heating"}
    assert columns.quality.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("flags", "klass", "reason", "flag"),
    [
        ([1, 0, 0, 0], QualityClass.GOOD, Reason.NONE, 0),
        ([0, 1, 0, 0], QualityClass.BAD, Reason.SENSOR_FAILURE, 0),
        ([0, 0, 1, 0], QualityClass.GOOD, Reason.NONE, Flag.FORCED),
        ([0, 0, 0, 1], QualityClass.UNCERTAIN, Reason.SUBSTITUTED, 0),
    ],
)
async def test_status_flags_become_quality(
    server: BacnetServer,
    driver: BacnetDriver,
    flags: list[int],
    klass: QualityClass,
    reason: Reason,
    flag: int,
) -> None:
    server.text.statusFlags = flags

    quality = int((await driver.read(driver.plan([MODE]))).quality[0])

    assert (class_of(quality), reason_of(quality), flags_of(quality)) == (klass, reason, flag)


async def test_a_higher_priority_wins_until_it_is_given_back(
    server: BacnetServer, driver: BacnetDriver
) -> None:
    await driver.write(SETPOINT, 23.5, 10)
    await driver.write(SETPOINT, 19.0, 12)
    assert float(server.value.presentValue) == 23.5

    await driver.write(SETPOINT, None, 10)
    assert float(server.value.presentValue) == 19.0

    await driver.write(SETPOINT, None, 12)
    assert float(server.value.presentValue) == 21.0


async def test_a_switch_is_written_as_a_number(server: BacnetServer, driver: BacnetDriver) -> None:
    await driver.write(FAN, 1.0, 8)

    assert int(server.switch.presentValue) == 1


async def test_what_the_device_refuses_to_write_is_told_in_its_words(driver: BacnetDriver) -> None:
    unknown = PointSource(Point("none"), BacnetPoint(object="analog-value", instance=99))

    with pytest.raises(Refused, match="unknown-object"):
        await driver.write(unknown, 1.0)


async def test_a_text_for_a_number_is_refused_before_it_is_sent(driver: BacnetDriver) -> None:
    with pytest.raises(OptionsWrong, match="takes a number"):
        await driver.write(SETPOINT, "warm")


async def test_another_device_at_the_address_is_refused(server: BacnetServer) -> None:
    with pytest.raises(Refused, match=f"device {INSTANCE} answers there, not 5"):
        async with BacnetDriver(options(server, instance=5)):
            pass


async def test_a_device_that_cannot_answer_much_is_asked_for_less(server: BacnetServer) -> None:
    many: list[tuple[ObjectName, int]] = [("analog-input", at % 4) for at in range(120)]
    points = [
        PointSource(Point(f"p{at}"), BacnetPoint(object=kind, instance=instance))
        for at, (kind, instance) in enumerate(many)
    ]
    async with BacnetDriver(options(server, max_points=120)) as driver:
        plan = driver.plan(points)
        columns = await driver.read(plan)

    assert columns.value.tolist() == [20.0 + at % 4 for at in range(120)]


async def test_objects_are_browsed_a_page_at_a_time(driver: BacnetDriver) -> None:
    first = await driver.browse(limit=4)
    rest = await driver.browse(cursor=first.cursor)

    nodes = [*first.nodes, *rest.nodes]
    assert first.cursor
    assert rest.cursor == ""
    found = {node.name: node for node in nodes}
    assert found["AHU1.Temp2"].source == {"object": "analog-input", "instance": 2}
    assert found["AHU1.Temp2"].unit == "degrees-celsius"
    assert found["AHU1.Temp2"].value == "22.0"
    assert not found["AHU1.Temp2"].is_writable
    assert found["Fan"].is_writable
    assert found["Mode"].type is PointType.TEXT


async def test_a_made_up_cursor_is_refused(driver: BacnetDriver) -> None:
    with pytest.raises(OptionsWrong, match="no cursor"):
        await driver.browse(cursor="x")


async def test_the_device_says_who_it_is(server: BacnetServer, driver: BacnetDriver) -> None:
    who = await driver.identify()

    assert who["vendor"] == "Sample works"
    assert who["model"] == "AHU"
    assert who["name"] == "Air handler 1"
    assert await BacnetDriver(options(server)).reach() == f"{HOST}:{server.port}"


async def test_reaching_nobody_says_what_to_look_at(server: BacnetServer) -> None:
    await server.stop()
    nobody = BacnetDevice(host=HOST, port=server.port, timeout_s=0.2, retries=0)

    with pytest.raises(LinkLost, match="firewall"):
        await BacnetDriver(nobody).reach()


async def test_who_is_finds_the_device(server: BacnetServer) -> None:
    search = BacnetSearch(broadcast=HOST, port=server.port, local=HOST, local_port=0, wait_s=5)
    shown: list[float] = []

    found = [one async for one in discover(search, shown.append)]

    assert [one.options for one in found] == [
        {"host": HOST, "port": server.port, "instance": INSTANCE}
    ]
    assert shown == [1.0]
