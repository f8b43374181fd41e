"""Looking at a broker beside the running session, and wildcards instead of topics."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from edge.first_read import told
from edge.settings import load
from protocols.driver import Browsing, Node, PointSource, Probing
from protocols.mqtt import driver_type
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox
from shared.errors import LinkLost, OptionsWrong
from shared.model import Point, PointType
from shared.quality import GOOD, QualityClass, Reason, bad, class_of
from tests.servers.mosquitto import HOST, Mosquitto, establish, mosquitto, publish

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30.0
ROOMS: Final = {"filter": "building/+/+/t", "key": "{1}/{2}/temperature"}


def options(port: int, **more: Any) -> MqttDevice:
    given = {"host": HOST, "port": port, "client_id": f"b-{uuid.uuid4().hex}", "browse_s": 1.2}
    return MqttDevice.model_validate(given | more)


def point(topic: str, **more: Any) -> PointSource:
    return PointSource(Point(topic), MqttPoint.model_validate({"topic": topic, **more}))


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path_factory.mktemp("broker"), sys_interval=1) as broker:
        await publish(broker.port, "building/1/101/t", "21.5", retain=True)
        await publish(broker.port, "building/1/102/t", "22.5", retain=True)
        await publish(broker.port, "building/2/light", "ON", retain=True)
        said = '{"temp": 20.1, "on": true, "who": "me", "list": [1, {"x.y": 2}], "none": null}'
        await publish(broker.port, "plant/ahu", said, retain=True)
        await publish(broker.port, "plant/raw", b"\xff\x00", retain=True)
        yield broker


def by_name(nodes: tuple[Node, ...]) -> dict[str, Node]:
    return {one.name: one for one in nodes}


async def test_keys_of_found_points_come_from_topic_levels(broker: Mosquitto) -> None:
    async with MqttDriver(options(broker.port, filters=[ROOMS])) as driver:
        assert isinstance(driver, Browsing)
        page = await driver.browse()
    found = {one.key: one.source for one in page.nodes}
    assert found == {
        "1/101/temperature": {"topic": "building/1/101/t"},
        "1/102/temperature": {"topic": "building/1/102/t"},
    }


async def test_without_filters_everything_is_found_and_documents_open(broker: Mosquitto) -> None:
    async with MqttDriver(options(broker.port)) as driver:
        top = by_name((await driver.browse()).nodes)
        leaves = by_name((await driver.browse(top["plant/ahu"].id)).nodes)
    assert top["building/2/light"].type is PointType.BOOLEAN
    assert (top["building/1/101/t"].key, top["building/1/101/t"].value) == (
        "building/1/101/t",
        "21.5",
    )
    assert top["plant/ahu"].has_children
    assert top["plant/ahu"].source is None
    assert "binary" in top["plant/raw"].value
    assert {name: one.type for name, one in leaves.items()} == {
        "temp": PointType.NUMBER,
        "on": PointType.BOOLEAN,
        "who": PointType.TEXT,
        "list[0]": PointType.NUMBER,
        'list[1]["x.y"]': PointType.NUMBER,
        "none": PointType.NUMBER,
    }
    assert leaves["temp"].key == "plant/ahu/temp"
    assert leaves['list[1]["x.y"]'].key == "plant/ahu/list/1/x.y"


async def test_what_browsing_proposes_can_be_read(broker: Mosquitto) -> None:
    device = options(broker.port, filters=[{"filter": "#"}])
    async with MqttDriver(device) as driver:
        nodes = list((await driver.browse()).nodes)
        for node in [one for one in nodes if one.has_children]:
            nodes += (await driver.browse(node.id)).nodes
    found = [one for one in nodes if one.source is not None and "binary" not in one.value]
    points = [
        PointSource(Point(one.key, type=one.type), MqttPoint.model_validate(one.source))
        for one in found
    ]
    inbox = Inbox(done=True)
    async with MqttDriver(device) as driver, anyio.create_task_group() as group:
        group.start_soon(inbox.consume, driver.subscribe(driver.plan(points), ()))
        await inbox.until(lambda: len(inbox.series()) == len(points), "every point")
        group.cancel_scope.cancel()
    bads = {
        found[series].name
        for one in inbox.deliveries
        for series, code in zip(one.columns.series, one.columns.quality, strict=True)
        if class_of(int(code)) is QualityClass.BAD
    }
    assert bads == {"none"}


async def test_long_lists_come_in_pages_also_to_another_connection(broker: Mosquitto) -> None:
    device = options(broker.port)
    async with MqttDriver(device) as driver:
        whole = [one.id for one in (await driver.browse()).nodes]
        first = await driver.browse(limit=2)
    async with MqttDriver(device) as driver:
        second = await driver.browse(cursor=first.cursor, limit=100)
    assert [one.id for one in (*first.nodes, *second.nodes)] == whole
    assert second.cursor == ""


async def test_what_was_not_found_is_no_parent(broker: Mosquitto) -> None:
    async with MqttDriver(options(broker.port, browse_s=0.2)) as driver:
        for parent in ("nonsense", "topic:plant/+", "topic:never/told", "topic:building/2/light"):
            with pytest.raises(OptionsWrong):
                await driver.browse(parent)


async def test_looking_takes_nothing_from_the_running_session(broker: Mosquitto) -> None:
    device = options(broker.port)
    topic = f"live/{uuid.uuid4().hex}"
    await establish(broker.port, device.client_id, topic)
    await publish(broker.port, topic, "1", "2")
    running = MqttDriver(device)
    async with running, MqttDriver(driver_type().aside(device)) as beside:  # type: ignore[misc]
        await beside.browse()
        await running.browse()
        await publish(broker.port, topic, "3")
        inbox = Inbox(done=True)
        async with anyio.create_task_group() as group:
            group.start_soon(inbox.consume, running.subscribe(running.plan([point(topic)]), ()))
            await inbox.until_seen(0, 3.0)
            group.cancel_scope.cancel()
    assert inbox.values(0) == [1.0, 2.0, 3.0]


CONFIG: Final = """
gateway: {{data: data}}
central: {{link: "wss://127.0.0.1:1/link", enrol: "https://127.0.0.1:1"}}
devices:
  - name: room
    driver: mqtt
    options: {{host: 127.0.0.1, port: {port}, client_id: {client_id}}}
    points:
      - {{key: room/t, unit: "°C", source: {{topic: building/1/101/t}}}}
"""


async def test_a_person_who_reads_once_is_told_what_the_broker_keeps(
    broker: Mosquitto, tmp_path: Path
) -> None:
    device, topic = options(broker.port), "building/1/101/t"
    await establish(broker.port, device.client_id, topic)
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(port=broker.port, client_id=device.client_id))
    assert await told(load(path), "room") == ["room/t  21.5  uncertain: stale"]
    inbox = Inbox(done=True)
    async with MqttDriver(device) as driver, anyio.create_task_group() as group:
        group.start_soon(inbox.consume, driver.subscribe(driver.plan([point(topic)]), ()))
        await inbox.until_seen(0, 21.5)  # it waited for the gateway all the time
        assert driver._connected().is_session_present
        group.cancel_scope.cancel()


async def test_a_look_leaves_no_session_at_the_broker(broker: Mosquitto) -> None:
    aside = driver_type().aside
    assert aside is not None
    device = options(broker.port)
    beside = aside(device)
    assert beside.client_id not in {device.client_id, aside(device).client_id}
    topic = f"aside/{uuid.uuid4().hex}"
    async with MqttDriver(beside) as driver:
        await driver.browse()
        async with anyio.create_task_group() as group:
            inbox = Inbox(done=False)
            group.start_soon(inbox.consume, driver.subscribe(driver.plan([point(topic)]), ()))
            await publish(broker.port, topic, "1")
            group.cancel_scope.cancel()
    again = MqttDriver(beside.model_copy(update={"keep_session": True}))
    async with again:
        assert not again._connected().is_session_present


async def test_a_broker_that_lets_nothing_through_shows_nothing(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic write #\n")
    rights.chmod(0o700)
    # Mosquitto grants the subscription and lets nothing through.
    async with (
        mosquitto(tmp_path, acl_file=rights) as broker,
        MqttDriver(options(broker.port, browse_s=0.2)) as driver,
    ):
        await publish(broker.port, "secret", "1", retain=True)
        assert (await driver.browse()).nodes == ()


async def test_the_connection_test_tells_its_steps(broker: Mosquitto) -> None:
    driver = MqttDriver(options(broker.port))
    assert isinstance(driver, Probing)
    assert await driver.reach() == f"{HOST}:{broker.port}"
    async with driver:
        assert "mosquitto" in (await driver.identify())["version"]
    with pytest.raises(LinkLost, match="look at host, port"):
        await MqttDriver(options(1)).reach()


async def test_one_subscription_feeds_many_topics(broker: Mosquitto) -> None:
    device = options(broker.port, filters=[{"filter": "many/#"}])
    topics = [f"many/{n}" for n in range(500)]
    inbox = Inbox(done=True)
    async with MqttDriver(device) as driver, anyio.create_task_group() as group:
        plan = driver.plan([point(topic) for topic in topics])
        assert plan.filters == ("many/#",)
        group.start_soon(inbox.consume, driver.subscribe(plan, ()))
        await anyio.lowlevel.checkpoint()
        for n in (0, 499):
            await driver.write(point(topics[n], write={"topic": topics[n]}), float(n))
            await inbox.until_seen(n, float(n))
        group.cancel_scope.cancel()


async def test_a_wildcard_of_an_older_configuration_is_signed_off(broker: Mosquitto) -> None:
    device = options(broker.port)
    await establish(broker.port, device.client_id, "older/+/t", "kept/t")
    mine = point("kept/t", write={"topic": "kept/t"})
    inbox = Inbox(done=True)
    async with MqttDriver(device) as driver, anyio.create_task_group() as group:
        group.start_soon(inbox.consume, driver.subscribe(driver.plan([mine]), ()))
        await publish(broker.port, "older/1/t", "1")
        await driver.write(mine, 1.0)
        await inbox.until_seen(0, 1.0)
        group.cancel_scope.cancel()
    await publish(broker.port, "older/2/t", "2")
    await publish(broker.port, "kept/t", "2")
    rig_driver = MqttDriver(device)
    seen: list[str] = []
    async with rig_driver:
        connection = rig_driver._connected()
        with anyio.fail_after(DEADLINE_S):
            while "kept/t" not in seen:
                seen += [one.content.topic for one in await connection.receive()]
    assert seen == ["kept/t"]


async def test_what_a_brokers_queue_dropped_while_we_were_away_shows_in_the_counter(
    tmp_path: Path,
) -> None:
    async with mosquitto(tmp_path, max_queued_messages=10, max_inflight_messages=1) as broker:
        device = options(broker.port)
        source = point("burst", path="v", sequence_path="n")

        async def heard(known: tuple[bytes, ...], last: float) -> Inbox:
            inbox = Inbox(done=True)
            async with MqttDriver(device) as driver, anyio.create_task_group() as group:
                group.start_soon(inbox.consume, driver.subscribe(driver.plan([source]), known))
                if last:
                    # What comes now is behind all that the broker kept.
                    await publish(broker.port, "burst", f'{{"v": {last}, "n": {last:.0f}}}')
                    await inbox.until_seen(0, last)
                group.cancel_scope.cancel()
            return inbox

        await establish(broker.port, device.client_id, "burst")
        first = await heard((), 1.0)
        assert bad(Reason.MESSAGES_LOST) not in codes(first)
        burst = [f'{{"v": {n}, "n": {n}}}' for n in range(2, 100)]
        await publish(broker.port, "burst", *burst)
        second = await heard(first.tokens(), 100.0)
    assert codes(second).count(bad(Reason.MESSAGES_LOST)) == 1
    assert codes(second).count(GOOD) < 20


def codes(inbox: Inbox) -> list[int]:
    return [code for one in inbox.deliveries for code in one.columns.quality.tolist()]
