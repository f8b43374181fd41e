"""Writing by MQTT: every kind of payload comes back as it was written, bounded and never lost."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from protocols.driver import PointSource, Writing
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.mqtt.publication import Publication
from protocols.testing.rig import Inbox
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point, PointType
from tests.servers.mosquitto import HOST, Mosquitto, mosquitto

pytestmark = pytest.mark.integration

NUMBER, BOOLEAN, TEXT = PointType.NUMBER, PointType.BOOLEAN, PointType.TEXT
DEADLINE_S: Final = 30.0


def device(port: int, **options: Any) -> MqttDevice:
    given = {"host": HOST, "port": port, "client_id": f"w-{uuid.uuid4().hex}", "timeout_s": 5.0}
    return MqttDevice.model_validate(given | options)


def point(kind: PointType = NUMBER, **options: Any) -> PointSource:
    topic = f"room/{uuid.uuid4().hex}"
    given = {"topic": topic, "write": {"topic": topic, **options.pop("write", {})}}
    return PointSource(Point("p", type=kind), MqttPoint.model_validate(given | options))


@asynccontextmanager
async def listening(driver: MqttDriver, *sources: PointSource) -> AsyncIterator[Inbox]:
    inbox = Inbox(done=True)
    async with anyio.create_task_group() as group:
        group.start_soon(inbox.consume, driver.subscribe(driver.plan(sources), ()))
        await anyio.lowlevel.checkpoint()  # now the subscription goes out, before any write
        yield inbox
        group.cancel_scope.cancel()


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


BINARY: Final = [
    (kind, order, value)
    for kind, value in {
        "uint8": 200.0,
        "int8": -100.0,
        "uint16": 40_000.0,
        "int16": -20_000.0,
        "uint32": 3e9,
        "int32": -2e9,
        "uint64": 2.0**60,
        "int64": -(2.0**60),
        "float32": 21.5,
        "float64": 21.1,
    }.items()
    for order in ("big", "little")
]
ROUND_TRIPS: Final[list[tuple[PointSource, float | str]]] = [
    (point(), 21.5),
    (point(), -3.0),
    (point(scale=0.1, offset=-40), 12.5),
    (point(BOOLEAN), 1.0),
    (point(BOOLEAN, write={"on": "ON", "off": "OFF"}), 0.0),
    (point(TEXT), "eco: {value} / {json}"),
    (point(path="a.v", write={"template": '{"a": {"v": {json}}}'}), 7.25),
    (point(BOOLEAN, path="v", write={"template": '{"v": {json}}'}), 1.0),
    (point(TEXT, path="v", write={"template": '{"v": {json}}'}), 'says "hi" \\ ü'),
    *(
        (point(binary={"type": kind, "order": order}, write={"encoding": "binary"}), value)
        for kind, order, value in BINARY
    ),
]


async def test_every_kind_of_value_comes_back_as_it_was_written(broker: Mosquitto) -> None:
    sources = [source for source, _ in ROUND_TRIPS]
    async with MqttDriver(device(broker.port)) as driver:
        assert isinstance(driver, Writing)
        async with listening(driver, *sources) as inbox:
            for series, (source, value) in enumerate(ROUND_TRIPS):
                await driver.write(source, value)
                await inbox.until(lambda at=series: at in inbox.series(), f"point {series}")  # type: ignore[misc]
            plan = driver.plan(sources)
            for delivery in inbox.deliveries:
                plan.latest.keep(delivery.columns)
            columns = await driver.read(plan)
    read = [columns.texts.get(at, columns.value[at]) for at in range(len(sources))]
    assert read == [value for _, value in ROUND_TRIPS]
    assert columns.quality.tolist() == [0] * len(sources)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (PointSource(Point("p"), MqttPoint(topic="read/only")), 1.0),
        (point(), None),
        (point(), "warm"),
        (point(), float("nan")),
        (point(BOOLEAN), 2.0),
        (point(binary={"type": "uint8"}, write={"encoding": "binary"}), 256.0),
        (point(binary={"type": "uint8", "bit": 1}, write={"encoding": "binary"}), 1.0),
        (point(write={"encoding": "binary"}), 1.0),
    ],
)
async def test_what_cannot_be_written_is_wrong_and_nothing_is_published(
    broker: Mosquitto, source: PointSource, value: float | str | None
) -> None:
    async with MqttDriver(device(broker.port)) as driver:
        with pytest.raises(OptionsWrong, match="p:"):
            await driver.write(source, value)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_more_than_the_broker_bears_at_once_is_still_all_there(
    tmp_path: Path, version: str
) -> None:
    source = point()
    async with (
        mosquitto(tmp_path, max_inflight_messages=3) as broker,
        MqttDriver(device(broker.port, version=version, max_in_flight=500)) as driver,
        listening(driver, source) as inbox,
    ):
        await asyncio.gather(*(driver.write(source, float(value)) for value in range(300)))
        await inbox.until(lambda: len(inbox.values(0)) == 300, "all that was written")
    assert sorted(inbox.values(0)) == [float(value) for value in range(300)]


async def test_a_broker_that_says_no_refuses(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic read #\n")
    rights.chmod(0o700)
    async with (
        mosquitto(tmp_path, acl_file=rights) as broker,
        MqttDriver(device(broker.port, version="5")) as driver,
    ):
        with pytest.raises(Refused, match="Not authorized"):
            await driver.write(point(), 1.0)


@asynccontextmanager
async def swallowing(port: int) -> AsyncIterator[int]:
    """Pass connections on to a broker, but none of its acknowledgements of publications."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, swallow: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4_096):
                if not (swallow and data[0] >> 4 == 4):
                    writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(HOST, port)
        tasks.add(asyncio.ensure_future(pump(reader, back_writer, swallow=False)))
        tasks.add(asyncio.ensure_future(pump(back_reader, writer, swallow=True)))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()


async def test_a_broker_that_never_acknowledges_ends_each_write_in_time(broker: Mosquitto) -> None:
    async with swallowing(broker.port) as port, MqttDriver(device(port, timeout_s=0.5)) as driver:
        for _ in range(2):
            writes = [driver.write(point(), 1.0) for _ in range(12)]  # some wait for their turn
            with anyio.fail_after(DEADLINE_S):
                ended = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(one) for one in ended} == {LinkLost}
            assert "not acknowledged within 0.5 s" in str(ended[0])


async def test_what_is_only_told_gives_nobody_a_turn_at_a_broker_that_is_full(
    broker: Mosquitto,
) -> None:
    source = point()
    async with (
        MqttDriver(device(broker.port)) as reader,
        listening(reader, source) as inbox,
        swallowing(broker.port) as port,
        MqttDriver(device(port, timeout_s=1.0)) as driver,
    ):
        connection = driver._connected()
        for _ in range(30):
            connection.tell(Publication("told", b"1"))  # needs no acknowledgement
        writes = [driver.write(source, float(value)) for value in range(30)]
        await asyncio.gather(*writes, return_exceptions=True)
        await inbox.until_seen(0, 9.0)
    # Ten wait for acknowledgements that never come: not one more goes out.
    assert inbox.values(0) == [float(value) for value in range(10)]


async def test_a_write_under_way_as_the_link_is_lost_says_that_nobody_knows(
    tmp_path: Path,
) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        swallowing(broker.port) as port,
        MqttDriver(device(port, timeout_s=20.0)) as driver,
    ):
        writing = asyncio.ensure_future(driver.write(point(), 1.0))
        await anyio.lowlevel.checkpoint()
        await broker.kill()
        with anyio.fail_after(DEADLINE_S), pytest.raises(LinkLost):
            await writing
