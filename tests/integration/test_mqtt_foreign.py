"""The MQTT driver with brokers of several makers: the traps that they lay, as general behaviour."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox
from shared.errors import DriverError, LinkLost, Refused
from shared.model import Point
from shared.quality import QualityClass, Reason, class_of, reason_of
from tests.servers.mosquitto import HOST, Mosquitto, mosquitto, publish
from tests.servers.mqtt_brokers import Broker, aedes, mochi

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30.0
BROKERS: Final = ["mosquitto", "aedes", pytest.param("mochi", marks=pytest.mark.peers)]


@pytest.fixture(scope="module", params=BROKERS)
async def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mosquitto | Broker]:
    home = tmp_path_factory.mktemp(request.param)
    makers: dict[str, Callable[[Path], Mosquitto | Broker]] = {
        "mosquitto": Mosquitto,
        "aedes": aedes,
        "mochi": mochi,
    }
    async with makers[request.param](home) as broker:
        yield broker


def device(port: int, **options: Any) -> MqttDevice:
    given = {"host": HOST, "port": port, "client_id": f"f-{uuid.uuid4().hex}", "timeout_s": 5.0}
    return MqttDevice.model_validate(given | options)


def written(topic: str, **options: Any) -> PointSource:
    given = {"topic": topic, "write": {"topic": topic}} | options
    return PointSource(Point(topic), MqttPoint.model_validate(given))


@asynccontextmanager
async def listening(driver: MqttDriver, *sources: PointSource) -> AsyncIterator[Inbox]:
    inbox = Inbox(done=True)
    async with anyio.create_task_group() as group:
        group.start_soon(inbox.consume, driver.subscribe(driver.plan(sources), ()))
        await anyio.lowlevel.checkpoint()  # now the subscription goes out, before any write
        yield inbox
        group.cancel_scope.cancel()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_what_is_written_comes_back_in_either_version(
    broker: Mosquitto | Broker, version: str
) -> None:
    source = written(f"round/{uuid.uuid4().hex}")
    async with (
        MqttDriver(device(broker.port, version=version)) as driver,  # aedes: falls back
        listening(driver, source) as inbox,
    ):
        for value in (1.0, 2.5):
            await driver.write(source, value)
            await inbox.until_seen(0, value)
    assert inbox.values(0) == [1.0, 2.5]


async def test_many_writes_at_once_all_arrive(broker: Mosquitto | Broker) -> None:
    source = written(f"many/{uuid.uuid4().hex}")
    async with MqttDriver(device(broker.port)) as driver, listening(driver, source) as inbox:
        await asyncio.gather(*(driver.write(source, float(value)) for value in range(200)))
        await inbox.until(lambda: len(set(inbox.values(0))) == 200, "all that was written")
    assert len(inbox.values(0)) == 200


def dying_client(port: int, topic: str) -> Client:
    """Connect a device that says it is online, and whose last will says that it is not."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=uuid.uuid4().hex)
    client.will_set(topic, "offline", 1, retain=True)
    client.connect(HOST, port)
    client.loop_start()
    client.publish(topic, "online", 1, retain=True).wait_for_publish(DEADLINE_S)
    return client


async def test_a_device_that_dies_makes_its_points_bad_until_it_speaks_again(
    broker: Mosquitto | Broker,
) -> None:
    base = f"dev/{uuid.uuid4().hex}"
    will = {"topic": f"{base}/status"}
    client = await asyncio.to_thread(dying_client, broker.port, will["topic"])
    source = written(f"{base}/t", availability=will)
    async with MqttDriver(device(broker.port)) as driver, listening(driver, source) as inbox:
        await driver.write(source, 21.0)
        await inbox.until_seen(0, 21.0)
        sock: Any = client.socket()
        sock.shutdown(2)  # without a word
        client.loop_stop()
        await inbox.until(lambda: Reason.LINK_DOWN in reasons(inbox), "the last will")
        assert reasons(inbox)[-1] is Reason.LINK_DOWN
        await publish(broker.port, will["topic"], "online")
        await driver.write(source, 22.0)
        await inbox.until_seen(0, 22.0)
    assert class_of(int(inbox.deliveries[-1].columns.quality[-1])) is QualityClass.GOOD

    async with MqttDriver(device(broker.port)) as driver, listening(driver, source) as later:
        await later.until(lambda: bool(later.deliveries), "what the broker kept of the will")
    assert reasons(later) == [Reason.LINK_DOWN]


def reasons(inbox: Inbox) -> list[Reason]:
    return [reason_of(code) for one in inbox.deliveries for code in one.columns.quality.tolist()]


async def test_browsing_finds_what_is_kept(broker: Mosquitto | Broker) -> None:
    base = uuid.uuid4().hex
    await publish(broker.port, f"{base}/room1/t", "21", retain=True)
    filters = [{"filter": f"{base}/+/t", "key": "{1}/temperature"}]
    async with MqttDriver(device(broker.port, filters=filters, browse_s=1.0)) as driver:
        page = await driver.browse()
    assert [(one.key, one.value) for one in page.nodes] == [("room1/temperature", "21")]


async def test_a_password_that_nobody_asks_for_does_no_harm(broker: Mosquitto | Broker) -> None:
    async with MqttDriver(device(broker.port, username="u", password="p")) as driver:
        assert len(await driver.read(driver.plan([]))) == 0


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_payload_that_a_broker_takes_not_ends_in_an_error_of_ours_in_time(
    tmp_path: Path, version: str
) -> None:
    async with mosquitto(tmp_path, max_packet_size=2_000) as broker:
        source = written("big", write={"topic": "big", "template": "{value}" + "x" * 5_000})
        with anyio.fail_after(DEADLINE_S), pytest.raises((LinkLost, Refused)):
            async with MqttDriver(device(broker.port, version=version, timeout_s=1.0)) as driver:
                await driver.write(source, 1.0)
        small = written("small")
        async with MqttDriver(device(broker.port, version=version)) as driver:
            await driver.write(small, 1.0)  # the next connection is as good as any


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_broker_that_says_nothing_to_the_login_is_given_up(version: str) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with anyio.fail_after(DEADLINE_S), pytest.raises(DriverError, match="within"):
            async with MqttDriver(device(port, version=version, timeout_s=0.3)):
                pass
