"""What a server pushes is pushed, what it does not is read: none is lost, none stays behind."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import numpy as np
import pytest
from asyncua.ua.status_codes import StatusCodes

from protocols.opcua import driver_type
from protocols.opcua.following import merged
from protocols.opcua.options import OpcuaDevice
from protocols.opcua.session import Session, Subscription, Target
from protocols.testing.rig import Inbox
from shared.columns import Columns
from shared.errors import LinkLost, Refused
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.opcua import OpcuaServer
from tests.servers.opcua_points import followed, source, sources

pytest_plugins = ["tests.servers.opcua_fixtures"]
pytestmark = pytest.mark.integration

MANY: Final = 5_000
NOT_SUPPORTED: Final = 0x803D_0000


async def test_five_thousand_points_are_subscribed_in_chunks_and_followed(
    node_opcua_server: NodeOpcua,
) -> None:
    rooms = [f"Room{index}.Temp" for index in range(MANY)]
    points = sources(*(f"nsu={NAMESPACE};s={room}" for room in rooms))
    options = OpcuaDevice(url=node_opcua_server.url, timeout_s=20, publishing_interval_ms=100)
    async with followed(options, points) as inbox:
        await inbox.until(lambda: len(inbox.series()) == MANY, "a first value of every room")
        changed = {room: 1_000.0 + index for index, room in enumerate(rooms) if index % 7 == 0}
        await node_opcua_server.process.tell(put=changed)
        wanted = {(int(value) - 1_000, value) for value in changed.values()}
        await inbox.until(lambda: wanted <= set(inbox.rows()), "every change")
    assert not np.isnan([value for _, value in inbox.rows()]).any()


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[OpcuaServer]:
    server = OpcuaServer()
    await server.start()
    await server.add_numbers(["a", "b", "c"])
    yield server
    await server.close()


@pytest.fixture
async def server(running: OpcuaServer) -> OpcuaServer:
    for name in "abc":
        await running.put(name, 0.0)
    return running


POINTS: Final = sources("ns=2;s=a", "ns=2;s=b", "ns=2;s=c")


def device(server: OpcuaServer, **options: Any) -> OpcuaDevice:
    usual = {"publishing_interval_ms": 20, "poll_interval_s": 0.1, "keepalive_s": 0.5}
    return OpcuaDevice.model_validate({"url": server.url} | usual | options)


async def follow_changes(server: OpcuaServer, inbox: Inbox) -> None:
    await inbox.until(lambda: inbox.series() == {0, 1, 2}, "a first value of every point")
    for value in (1.0, 2.0, 3.0):
        for at, name in enumerate("abc"):
            await server.put(name, value)
            await inbox.until_seen(at, value)


def test_a_device_is_polled_by_the_collector_where_it_is_asked_for() -> None:
    kind = driver_type()
    for mode in ("auto", "subscribe", "poll"):
        options = OpcuaDevice.model_validate({"url": "opc.tcp://plc", "mode": mode})
        assert kind.is_pushing(options) == (mode != "poll")


async def refuse(session: Session) -> Subscription:
    msg = f"{session.options.url}: the server refuses (BadServiceUnsupported)"
    raise Refused(msg)


async def test_a_server_without_subscriptions_is_polled(
    server: OpcuaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "create_subscription", refuse)
    async with followed(device(server), POINTS) as inbox:
        await follow_changes(server, inbox)


async def test_a_server_without_subscriptions_is_refused_where_it_must_push(
    server: OpcuaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "create_subscription", refuse)
    async with followed(device(server, mode="subscribe"), POINTS) as inbox:
        await inbox.until_ended()
    assert isinstance(inbox.error, Refused)


def refuse_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server not monitor the second of every three points."""
    monitor = Session.monitor

    async def some(
        session: Session, subscription_id: int, items: Sequence[tuple[int, Target]]
    ) -> list[int]:
        kept = [item for item in items if item[0] % 3 != 1]
        statuses = iter(await monitor(session, subscription_id, kept))
        return [NOT_SUPPORTED if at % 3 == 1 else next(statuses) for at, _ in items]

    monkeypatch.setattr(Session, "monitor", some)


async def test_points_that_are_not_monitored_are_read_beside_those_that_are(
    server: OpcuaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_some(monkeypatch)
    async with followed(device(server), POINTS) as inbox:
        await follow_changes(server, inbox)
        await server.stop()
        await inbox.until_ended()
    assert isinstance(inbox.error, LinkLost)
    await server.start()
    running = {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}
    assert "_following" not in running


async def test_points_that_are_not_monitored_are_bad_where_the_server_must_push(
    server: OpcuaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_some(monkeypatch)
    async with followed(device(server, mode="subscribe"), POINTS) as inbox:
        await inbox.until(lambda: inbox.series() == {0, 1, 2}, "a value of every point")
    assert np.isnan(inbox.values(1)).all()


async def test_a_point_that_is_elsewhere_by_now_is_found_there(server: OpcuaServer) -> None:
    await server.add("before", 4.0)
    await server.add("after", 5.0)
    moved = [source(node="ns=2;s=before", path="/Objects/after")]
    async with followed(device(server), moved) as inbox:
        await inbox.until_seen(0, 4.0)
        await server.put("before", 4.0, status=StatusCodes.BadNodeIdUnknown)
        await inbox.until_ended()
    assert "found anew" in str(inbox.error)
    async with followed(device(server), [source(path="/Objects/after")]) as inbox:
        await inbox.until_seen(0, 5.0)


async def test_a_point_that_is_nowhere_else_is_bad_and_ends_nothing(server: OpcuaServer) -> None:
    await server.add("gone", 4.0)
    points = [source(node="ns=2;s=gone", path="/Objects/gone"), *POINTS]
    async with followed(device(server), points) as inbox:
        await inbox.until_seen(0, 4.0)
        await server.put("gone", 4.0, status=StatusCodes.BadNodeIdUnknown)
        await inbox.until(lambda: bool(np.isnan(inbox.values(0)[-1])), "it is bad")
        await server.put("a", 7.0)
        await inbox.until_seen(1, 7.0)


async def test_an_error_of_one_source_ends_all_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()

    async def fails() -> AsyncGenerator[Columns, None]:
        yield Columns.empty()
        raise LinkLost("gone")

    async def waits() -> AsyncGenerator[Columns, None]:
        yield Columns.empty()
        await asyncio.Event().wait()

    both = merged([fails(), waits()])
    assert [len(await anext(both)) for _ in range(2)] == [0, 0]
    with pytest.raises(LinkLost, match="gone"):
        await anext(both)
    assert asyncio.all_tasks() <= before
