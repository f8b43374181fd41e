"""A real edge node of Sparkplug B, by Tahu's own client, through real brokers and the driver."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest
from amqtt.broker import Broker

from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox
from shared.errors import OptionsWrong
from shared.model import Point, PointType
from shared.quality import GOOD, Reason, bad, uncertain
from tests.servers.foreign import Foreign
from tests.servers.mosquitto import HOST, mosquitto
from tests.servers.sparkplug_node import GROUP, NODE, sparkplug_node

pytestmark = pytest.mark.integration

POINTS: Final = {
    "load": (NODE, PointType.NUMBER),
    "count": (NODE, PointType.NUMBER),
    "temperature": (f"{NODE}/d", PointType.NUMBER),
    "fan": (f"{NODE}/d", PointType.BOOLEAN),
    "mode": (f"{NODE}/d", PointType.TEXT),
    "unset": (f"{NODE}/d", PointType.NUMBER),
}
NAMES: Final = list(POINTS)
BORN: Final[dict[str, float | str | None]] = {
    "load": 5.5,
    "count": -7.0,
    "temperature": 21.5,
    "fan": 0.0,
    "mode": "eco",
}
AMQTT_LETS_ANYBODY: Final = "amqtt.plugins.authentication.AnonymousAuthPlugin"


def source(name: str) -> PointSource:
    device, kind = POINTS[name]
    return PointSource(
        Point(f"{device}/{name}", type=kind), MqttPoint(device=device, property=name)
    )


class Floor:
    """A broker, an edge node that is not started yet, and a driver's subscription to it."""

    def __init__(self, port: int, node: Foreign) -> None:
        self.port = port
        self.node = node
        self.inbox = Inbox(done=True)

    def options(self) -> MqttDevice:
        return MqttDevice(
            host=HOST,
            port=self.port,
            client_id=f"spine-{uuid.uuid4().hex}",
            username="gateway",
            shape="sparkplug_b",
            group=GROUP,
            browse_s=4.0,
        )

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[MqttDriver]:
        async with MqttDriver(self.options()) as driver:
            pushed = driver.subscribe(driver.plan([source(name) for name in NAMES]), ())
            task = asyncio.ensure_future(self.inbox.consume(pushed))
            try:
                yield driver
            finally:
                task.cancel()
                await asyncio.wait([task])

    def last(self) -> dict[str, tuple[float | str | None, int]]:
        """Give the last value and quality of each point."""
        found: dict[str, tuple[float | str | None, int]] = {}
        for delivery in self.inbox.deliveries:
            columns = delivery.columns
            for row, series in enumerate(columns.series.tolist()):
                value = columns.texts.get(row, float(columns.value[row]))
                is_none = isinstance(value, float) and value != value  # noqa: PLR0124 - NaN
                found[NAMES[series]] = (None if is_none else value, int(columns.quality[row]))
        return found

    async def until(self, **expected: tuple[float | str | None, int]) -> None:
        """Wait until points have these values and qualities."""
        await self.inbox.until(
            lambda: expected.items() <= self.last().items(), f"points are {expected}"
        )

    async def until_born(self) -> None:
        await self.until(**{name: (value, GOOD) for name, value in BORN.items()})

    async def until_lost(self, reason: Reason) -> None:
        await self.until(load=(None, bad(reason)), temperature=(None, bad(reason)))

    async def until_told(self, word: str) -> None:
        with anyio.fail_after(20):
            await self.node.until_logged(word, 1)


@asynccontextmanager
async def amqtt() -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {AMQTT_LETS_ANYBODY: {"allow_anonymous": False}},
        }
    )
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()


@pytest.fixture(scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    async with mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.port


@pytest.fixture
async def floor(port: int, tmp_path: Path) -> AsyncIterator[Floor]:
    node = await asyncio.to_thread(sparkplug_node, port, tmp_path / "node.log")
    floor = Floor(port, node)
    try:
        yield floor
    finally:
        await node.stop()


async def test_births_are_read_and_data_by_alias(floor: Floor) -> None:
    async with floor.driver():
        await floor.node.start()
        await floor.until_born()
        await floor.until(unset=(None, bad(Reason.NOT_YET_REPORTED)))
        await floor.node.tell(data={"load": 6.5, "count": -8})
        await floor.node.tell(device="d", data={"temperature": 22.5, "mode": "Grüße"})
        await floor.until(
            load=(6.5, GOOD), count=(-8.0, GOOD), temperature=(22.5, GOOD), mode=("Grüße", GOOD)
        )


async def test_a_node_that_was_born_before_is_asked_to_tell_all_again(floor: Floor) -> None:
    await floor.node.start()
    async with floor.driver():
        await floor.until_born()
    assert "NCMD Node Control/Rebirth true" in floor.node.log


async def test_a_node_that_dies_is_down_until_it_is_born_again(floor: Floor) -> None:
    await floor.node.start()
    async with floor.driver():
        await floor.until_born()
        await floor.node.stop()  # kill -9: the broker publishes its will
        await floor.until_lost(Reason.LINK_DOWN)
        await floor.node.start()
        await floor.until_born()


async def test_a_device_that_dies_leaves_its_node(floor: Floor) -> None:
    await floor.node.start()
    async with floor.driver():
        await floor.until_born()
        await floor.node.tell(die="d")
        await floor.until(temperature=(None, bad(Reason.LINK_DOWN)), load=(5.5, GOOD))


async def test_a_lost_message_makes_values_uncertain_until_the_rebirth(floor: Floor) -> None:
    await floor.node.start()
    lost = uncertain(Reason.MESSAGES_LOST)
    async with floor.driver():
        await floor.until_born()
        await floor.node.tell(lose=1, data={"load": 7.5})
        await floor.until(load=(7.5, lost), temperature=(21.5, lost), mode=("eco", lost))
        await floor.until(load=(7.5, GOOD), temperature=(21.5, GOOD), mode=("eco", GOOD))
    assert "NCMD Node Control/Rebirth true" in floor.node.log


async def test_commands_reach_node_and_device_and_come_back_as_values(floor: Floor) -> None:
    await floor.node.start()
    async with floor.driver() as driver:
        await floor.until_born()
        await driver.write(source("fan"), 1.0)
        await driver.write(source("mode"), "boost")
        await driver.write(source("count"), 12.0)
        await floor.until(fan=(1.0, GOOD), mode=("boost", GOOD))
        await floor.until_told("NCMD count 12")
        with pytest.raises(OptionsWrong, match=r"12\.5"):
            await driver.write(source("count"), 12.5)
    assert "DCMD d fan Boolean true" in floor.node.log


async def test_browsing_asks_for_births_and_proposes_their_metrics(floor: Floor) -> None:
    await floor.node.start()
    async with MqttDriver(floor.options()) as driver, beating(floor.node):
        page = await driver.browse()
        below = (await driver.browse(page.nodes[-1].id)).nodes
    found = {node.name: node for node in below}
    assert [node.name for node in page.nodes] == [NODE, f"{NODE}/d"]
    assert set(found) == {"temperature", "setpoint", "fan", "mode", "unset"}
    assert (found["temperature"].unit, found["temperature"].value) == ("°C", "21.5")
    assert found["temperature"].source == {"device": f"{NODE}/d", "property": "temperature"}


@asynccontextmanager
async def beating(node: Foreign) -> AsyncIterator[None]:
    """Say something now and then: a node that says nothing is not noticed."""

    async def beat() -> None:
        while True:
            await node.tell(data={"load": 5.5})
            await anyio.sleep(0.1)

    task = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_births_deaths_and_rebirths_go_through_amqtt_too(tmp_path: Path) -> None:
    async with amqtt() as port:
        node = await asyncio.to_thread(sparkplug_node, port, tmp_path / "node.log")
        floor = Floor(port, node)
        try:
            await node.start()
            async with floor.driver():
                await floor.until_born()
                await node.stop()
                await floor.until_lost(Reason.LINK_DOWN)
        finally:
            await node.stop()
