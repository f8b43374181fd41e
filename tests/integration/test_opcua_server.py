"""The OPC UA driver against an asyncua server: odd values, silence, pressure, lost links."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import NotEnoughData
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from protocols.driver import PointSource
from protocols.opcua import session as session_module
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.testing.rig import Inbox, deaf_server, eventually
from shared.clock import from_datetime
from shared.columns import Columns
from shared.errors import LinkLost, Refused
from shared.model import Point, PointType
from shared.quality import GOOD, QualityClass, Reason, bad, class_of, reason_of
from tests.servers.opcua import Lying, OpcuaServer

pytestmark = pytest.mark.integration

NUMBERS: Final = tuple(f"n{index}" for index in range(10))
ODD: Final = "odd"
DEADLINE_S: Final = 20.0
JUNK: Final = ua.ExtensionObject(
    TypeId=ua.FourByteNodeId(ua.Int32(ObjectIds.EUInformation_Encoding_DefaultBinary)),
    Body=ua.ByteString(b"\x01\x02\x03"),
)
"""A structure of a known type whose body is none; it takes whole batches from asyncua's client."""


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[OpcuaServer]:
    server = OpcuaServer()
    await server.start()
    await server.add_numbers(NUMBERS)
    await server.add(ODD, 0.0)
    yield server
    await server.close()


@pytest.fixture
async def server(running: OpcuaServer) -> OpcuaServer:
    await running.start()
    for name in NUMBERS:
        await running.put(name, 0.0)
    await running.put_odd(ODD, 0.0)
    return running


def source(name: str, kind: PointType = PointType.NUMBER) -> PointSource:
    return PointSource(Point(name, type=kind), OpcuaPoint(node=f"ns=2;s={name}"))


def numbers(count: int = len(NUMBERS)) -> list[PointSource]:
    return [source(name) for name in NUMBERS[:count]]


def device(server: OpcuaServer, **options: Any) -> OpcuaDevice:
    defaults = {"timeout_s": 2.0, "publishing_interval_ms": 20.0, "keepalive_s": 0.5}
    return OpcuaDevice(url=server.url, **(defaults | options))


async def read(options: OpcuaDevice, points: Sequence[PointSource]) -> Columns:
    driver = OpcuaDriver(options)
    async with driver:
        return await driver.read(driver.plan(points))


@asynccontextmanager
async def subscribed(options: OpcuaDevice, points: Sequence[PointSource]) -> AsyncIterator[Inbox]:
    inbox, driver = Inbox(done=True), OpcuaDriver(options)
    async with driver:
        pushed = driver.subscribe(driver.plan(points), ())
        task = asyncio.ensure_future(inbox.consume(pushed))
        try:
            yield inbox
        finally:
            task.cancel()
            await asyncio.wait([task])


async def begun(inbox: Inbox, points: Sequence[PointSource]) -> None:
    """Wait until every point told its first value."""
    await inbox.until(lambda: len(inbox.series()) == len(points), "the first value of every point")


@pytest.mark.parametrize("chunk", [1, 3, 10, 500])
async def test_reading_in_chunks_gives_all_points_in_order(server: OpcuaServer, chunk: int) -> None:
    for index, name in enumerate(NUMBERS):
        await server.put(name, float(index))
    columns = await read(device(server, chunk=chunk), numbers())
    assert columns.series.tolist() == list(range(10))
    assert columns.value.tolist() == [float(index) for index in range(10)]


@pytest.mark.parametrize("chunk", [3, 500])
async def test_subscribing_in_chunks_delivers_all_points(server: OpcuaServer, chunk: int) -> None:
    async with subscribed(device(server, chunk=chunk), numbers()) as inbox:
        await begun(inbox, numbers())
        for index, name in enumerate(NUMBERS):
            await server.put(name, 100.0 + index)
        for index in range(10):
            await inbox.until_seen(index, 100.0 + index)


async def test_the_servers_own_limits_are_kept(server: OpcuaServer) -> None:
    limits = {
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: 4,
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: 3,
    }
    for number, limit in limits.items():
        await server.server.get_node(ua.NodeId(ua.Int32(number))).write_value(
            ua.Variant(limit, ua.VariantType.UInt32)
        )
    try:
        session = session_module.Session(device(server))
        await session.open()
        assert (session.read_chunk, session.monitor_chunk) == (4, 3)
        await session.close()
    finally:
        for number in limits:
            await server.server.get_node(ua.NodeId(ua.Int32(number))).write_value(
                ua.Variant(0, ua.VariantType.UInt32)
            )


async def test_values_times_and_statuses_come_exactly(server: OpcuaServer) -> None:
    at = datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC)
    await server.put("n0", 21.7, at=at)
    await server.put("n1", 5.0, at=at, status=StatusCodes.UncertainLastUsableValue)
    await server.put("n2", 5.0, at=at, status=StatusCodes.BadSensorFailure)
    await server.put("n3", math.nan, at=at)
    columns = await read(device(server), numbers(4))
    assert columns.observed_at.tolist() == [from_datetime(at)] * 4
    assert columns.value[:2].tolist() == [21.7, 5.0]
    assert [class_of(code) for code in columns.quality.tolist()] == [
        QualityClass.GOOD, QualityClass.UNCERTAIN, QualityClass.BAD, QualityClass.GOOD,
    ]  # fmt: skip
    assert [reason_of(code) for code in columns.quality.tolist()] == [
        Reason.NONE, Reason.STALE, Reason.SENSOR_FAILURE, Reason.NONE,
    ]  # fmt: skip


async def test_a_text_is_pushed_as_a_text(server: OpcuaServer) -> None:
    await server.put_odd(ODD, "heating")
    points = [source(ODD, PointType.TEXT)]
    async with subscribed(device(server), points) as inbox:
        await begun(inbox, points)
    assert inbox.deliveries[0].columns.texts == {0: "heating"}


async def test_an_unknown_node_is_a_wrong_address_and_the_others_live(server: OpcuaServer) -> None:
    points = [source("n0"), source("nowhere"), source("n1")]
    await server.put("n1", 3.0)
    columns = await read(device(server), points)
    assert columns.quality.tolist() == [GOOD, bad(Reason.WRONG_ADDRESS), GOOD]
    async with subscribed(device(server), points) as inbox:
        await begun(inbox, points)
        await inbox.until_seen(2, 3.0)
    first = inbox.deliveries[0].columns
    assert first.series.tolist() == [1]
    assert first.quality.tolist() == [bad(Reason.WRONG_ADDRESS)]


async def test_asyncuas_own_client_loses_the_batch_of_a_junk_structure(
    server: OpcuaServer,
) -> None:
    await server.put_odd(ODD, ua.Variant(JUNK, ua.VariantType.ExtensionObject))
    async with Client(server.url) as client:
        nodes = [client.get_node(f"ns=2;s={name}") for name in ("n0", ODD)]
        with pytest.raises(NotEnoughData):
            await client.read_values(nodes)


async def test_a_junk_structure_is_bad_alone_read_and_pushed(server: OpcuaServer) -> None:
    await server.put_odd(ODD, ua.Variant(JUNK, ua.VariantType.ExtensionObject))
    await check_odd_value_alone(server)


async def test_a_value_that_lies_about_its_length_is_bad_alone_read_and_pushed(
    server: OpcuaServer,
) -> None:
    await server.put_odd(ODD, ua.Variant(Lying(b"short"), ua.VariantType.ByteString))
    await check_odd_value_alone(server)


async def check_odd_value_alone(server: OpcuaServer) -> None:
    points = [*numbers(5), source(ODD), source("n9")]
    columns = await read(device(server), points)
    assert columns.quality.tolist() == [GOOD] * 5 + [bad(Reason.BAD_PAYLOAD), GOOD]
    async with subscribed(device(server), points) as inbox:
        await begun(inbox, points)
        for value in (1.0, 2.0, 3.0):
            await server.put("n9", value)
            await inbox.until_seen(6, value)
    assert set(inbox.series()) == set(range(7))
    assert all(math.isnan(value) for value in inbox.values(5))


async def test_an_ended_subscription_is_a_lost_link_that_says_why(server: OpcuaServer) -> None:
    async with subscribed(device(server), numbers()) as inbox:
        await begun(inbox, numbers())
        await server.end_subscriptions(StatusCodes.BadTimeout)
        await server.put("n0", 1.0)
        await inbox.until_ended()
    assert isinstance(inbox.error, LinkLost)
    assert "BadTimeout" in str(inbox.error)
    assert server.url in str(inbox.error)


async def test_a_server_that_falls_silent_is_a_lost_link(server: OpcuaServer) -> None:
    async with subscribed(device(server, timeout_s=0.5), numbers()) as inbox:
        await begun(inbox, numbers())
        await server.silence()
        await inbox.until_ended()
    assert isinstance(inbox.error, LinkLost)
    assert "keep-alive" in str(inbox.error)


async def test_an_idle_subscription_lives_by_its_keep_alives(server: OpcuaServer) -> None:
    async with subscribed(device(server, timeout_s=0.3), numbers()) as inbox:
        await begun(inbox, numbers())
        with anyio.move_on_after(2.5):  # an observation: well beyond 1.5 keep-alives and a timeout
            await inbox.until_ended()
        assert inbox.error is None
        await server.put("n0", 1.0)
        await inbox.until_seen(0, 1.0)


async def test_a_skipped_notification_is_a_lost_link(server: OpcuaServer) -> None:
    async with subscribed(device(server), numbers()) as inbox:
        await begun(inbox, numbers())
        for subscription in server.server.iserver.subscription_service.subscriptions.values():
            subscription._notification_seq += 2
        await server.put("n0", 1.0)
        await inbox.until_ended()
    assert "is missing" in str(inbox.error)
    assert inbox.count(0, 1.0) == 0


async def test_an_overflow_at_the_server_is_a_lost_link_before_anything_newer(
    server: OpcuaServer,
) -> None:
    async with subscribed(device(server), numbers()) as inbox:
        await begun(inbox, numbers())
        await server.put("n0", 5.0, status=0x0480)
        await inbox.until_ended()
    assert "fell behind" in str(inbox.error)
    assert inbox.count(0, 5.0) == 0


async def test_nothing_is_lost_while_the_consumer_pauses(server: OpcuaServer) -> None:
    driver = OpcuaDriver(device(server, queue_size=1_000))
    async with driver:
        pushed = driver.subscribe(driver.plan(numbers(1)), ())
        values = (await anext(pushed)).columns.value.tolist()
        for value in range(1, 301):  # many more publications than requests wait
            await server.put("n0", float(value))
            await asyncio.sleep(0.002)
        with anyio.fail_after(DEADLINE_S):
            while values[-1] != 300.0:
                values += (await anext(pushed)).columns.value.tolist()
    assert values == [float(value) for value in range(301)]


async def test_every_change_of_every_point_arrives_once(server: OpcuaServer) -> None:
    async with subscribed(device(server), numbers()) as inbox:
        await begun(inbox, numbers())
        for value in range(1, 101):
            for name in NUMBERS:
                await server.put(name, float(value))
            await asyncio.sleep(0)
        for index in range(10):
            await inbox.until_seen(index, 100.0)
    for index in range(10):
        assert inbox.values(index) == [float(value) for value in range(101)]


@pytest.mark.parametrize(("trigger", "arrives"), [("value", False), ("timestamp", True)])
async def test_the_trigger_says_whether_a_new_time_is_a_change(
    server: OpcuaServer,
    trigger: str,
    arrives: bool,  # noqa: FBT001, RUF100 - a parameter of the test
) -> None:
    async with subscribed(device(server, trigger=trigger), numbers(2)) as inbox:
        await begun(inbox, numbers(2))
        seen = inbox.count(0, 0.0)
        await server.put("n0", 0.0)
        await server.put("n1", 1.0)
        await inbox.until_seen(1, 1.0)
        assert (inbox.count(0, 0.0) > seen) is arrives


async def test_a_server_that_wants_a_login_refuses(server: OpcuaServer) -> None:
    tokens = list(server.server.iserver.supported_tokens)
    server.server.set_identity_tokens([ua.UserNameIdentityToken])
    try:
        with pytest.raises(Refused, match="BadIdentityToken"):
            await read(device(server), numbers())
    finally:
        server.server.set_identity_tokens(tokens)


async def test_a_peer_that_speaks_something_else_is_a_lost_link() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        writer.close()

    web = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with web:
        port = web.sockets[0].getsockname()[1]
        with pytest.raises(LinkLost, match=str(port)):
            await read(OpcuaDevice(url=f"opc.tcp://127.0.0.1:{port}", timeout_s=1), numbers())


async def test_the_channel_is_renewed_before_it_expires(
    server: OpcuaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "CHANNEL_LIFETIME_S", 0.4)
    driver = OpcuaDriver(device(server))
    async with driver:
        plan = driver.plan(numbers())
        client = driver._session._client
        assert client is not None

        def token() -> object:
            assert client.uaclient.protocol is not None
            return client.uaclient.protocol._connection.security_token.TokenId

        first = token()

        async def renewed() -> bool:
            assert len(await driver.read(plan)) == 10
            return token() != first

        await eventually(renewed, "a new token")
        assert len(await driver.read(plan)) == 10


async def test_an_outage_raises_no_storm_of_log_lines(
    server: OpcuaServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with subscribed(device(server), numbers()) as inbox:
        await begun(inbox, numbers())
        await server.stop()
        await inbox.until_ended()
    async with deaf_server(slams=True) as port:
        with pytest.raises(LinkLost):
            await read(OpcuaDevice(url=f"opc.tcp://127.0.0.1:{port}", timeout_s=1), numbers())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
