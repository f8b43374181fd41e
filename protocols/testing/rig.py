"""What the driver contract suite stands on: the rig, connections to try, and an inbox."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, Protocol

import anyio
import pytest
from pydantic import BaseModel

from protocols.driver import Delivery, Driver, DriverType, PointSource, Subscribing
from shared.columns import Columns
from shared.errors import DriverError, LinkLost
from shared.model import Point
from shared.quality import QualityClass, Reason, class_of, reason_of

DEADLINE_S: Final = 20.0
HOST: Final = "127.0.0.1"


class Rig(Protocol):
    """A device to try a driver on. Its server listens on loopback, on the same port every time."""

    driver_type: DriverType
    wrong_options: Sequence[dict[str, Any]]
    """Device options that cannot work; the model, `make` or `plan` must refuse each."""
    wrong_points: Sequence[dict[str, Any]]
    """Point options that cannot work."""

    def options(self, port: int | None = None) -> BaseModel:
        """Give device options with short timeouts (≤ 2 s), for another port if one is given."""
        ...

    def points(self) -> Sequence[PointSource]:
        """Name at least three points of the device, all of them numbers."""
        ...

    async def start(self) -> None:
        """Start the server, again after a stop; accepts connections when this returns."""
        ...

    async def stop(self) -> None:
        """Kill the server and cut its connections; nothing to do if it is stopped."""
        ...

    async def put(self, index: int, value: float) -> None:
        """Make `value` the device's value of point `index`; a device that pushes pushes it."""
        ...

    async def fail(self, index: int) -> None:
        """Make point `index` unreadable from now on; the other points live."""
        ...


def make(rig: Rig, port: int | None = None) -> Driver:
    """Make a driver of the rig, for another port if one is given."""
    return rig.driver_type.make(rig.options(port))


async def eventually(happens: Callable[[], Awaitable[bool]], what: str) -> None:
    """Await a condition with a deadline."""
    with anyio.move_on_after(DEADLINE_S):
        while not await happens():  # noqa: ASYNC110 - it may happen in another process
            await anyio.sleep(0.01)
        return
    pytest.fail(f"did not happen within {DEADLINE_S:.0f} s: {what}")


@asynccontextmanager
async def deaf_server(*, slams: bool) -> AsyncIterator[int]:
    """Listen on a port and never say a word: keep connections open, or slam each at once."""
    open_writers: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if slams:
            writer.transport.abort()
        else:
            open_writers.append(writer)

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()
        await server.wait_closed()


def closed_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def reasons(columns: Columns) -> list[Reason]:
    """Give the reason of each row."""
    return [reason_of(int(quality)) for quality in columns.quality]


def classes(columns: Columns) -> list[QualityClass]:
    """Give the quality class of each row."""
    return [class_of(int(quality)) for quality in columns.quality]


async def connect_and_read(rig: Rig, port: int | None = None) -> Columns:
    """Connect a new driver and read the rig's points once."""
    driver = make(rig, port)
    plan = driver.plan(rig.points())
    with anyio.fail_after(DEADLINE_S):
        async with driver:
            return await driver.read(plan)


class Inbox:
    """Consumes a subscription in a task and keeps all that came."""

    def __init__(self, *, done: bool) -> None:
        self.deliveries: list[Delivery] = []
        self.error: DriverError | None = None
        self._done = done
        self._ended = asyncio.Event()

    async def consume(self, pushed: AsyncIterator[Delivery]) -> None:
        try:
            async for delivery in pushed:
                self.deliveries.append(delivery)
                if self._done:
                    delivery.done()
        except DriverError as error:
            self.error = error
        finally:
            self._ended.set()

    def finish(self) -> None:
        """Call `done` of everything that came, and of what comes from now on."""
        self._done = True
        for delivery in list(self.deliveries):
            delivery.done()

    def rows(self) -> list[tuple[int, float]]:
        return [
            pair
            for delivery in self.deliveries
            for pair in zip(
                delivery.columns.series.tolist(), delivery.columns.value.tolist(), strict=True
            )
        ]

    def series(self) -> set[int]:
        return {series for series, _ in self.rows()}

    def values(self, index: int) -> list[float]:
        return [value for series, value in self.rows() if series == index]

    def count(self, index: int, value: float) -> int:
        return self.values(index).count(value)

    def tokens(self) -> tuple[bytes, ...]:
        return tuple(token for delivery in self.deliveries for token in delivery.tokens)

    async def until(self, happens: Callable[[], bool], what: str) -> None:
        async def happened() -> bool:
            if self._ended.is_set() and not happens():
                pytest.fail(f"the subscription ended ({self.error!r}) before: {what}")
            return happens()

        await eventually(happened, what)

    async def until_seen(self, index: int, value: float) -> None:
        await self.until(lambda: self.count(index, value) > 0, f"point {index} = {value}")

    async def until_ended(self) -> None:
        with anyio.fail_after(DEADLINE_S):
            await self._ended.wait()


@asynccontextmanager
async def subscribed(
    rig: Rig, *, known: Sequence[bytes] = (), done: bool = True
) -> AsyncIterator[Inbox]:
    """Connect, subscribe and consume for as long as the block runs; the link is closed after."""
    inbox = Inbox(done=done)
    driver = make(rig)
    assert isinstance(driver, Subscribing)
    async with driver:
        pushed = driver.subscribe(driver.plan(rig.points()), known)
        task = asyncio.ensure_future(inbox.consume(pushed))
        try:
            yield inbox
        finally:
            task.cancel()
            await asyncio.wait([task])
            if hasattr(pushed, "aclose"):
                await pushed.aclose()


def build(kind: DriverType, options: dict[str, Any], points: Sequence[PointSource]) -> None:
    """Make a driver and a plan of options as somebody wrote them."""
    kind.make(kind.device_options.model_validate(options)).plan(points)


def build_one(
    kind: DriverType, device: dict[str, Any], point: Point, options: dict[str, Any]
) -> None:
    """Make a driver and a plan with one point."""
    build(kind, device, [PointSource(point, kind.point_options.model_validate(options))])


def forbid_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a socket is opened or a name is looked up."""

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("opened a socket or looked a name up")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


async def no_tasks_but(before: set[asyncio.Task[Any]]) -> None:
    """Wait until no task is left that was not there before."""

    async def gone() -> bool:
        return not (asyncio.all_tasks() - before)

    await eventually(gone, "all tasks of the driver ended")


async def read_or_reconnect(rig: Rig, driver: Driver, plan: Any) -> float:
    """Read point 0; a driver that closed itself is allowed to say so, then a new one reads."""
    try:
        columns = await driver.read(plan)
    except LinkLost:
        columns = await connect_and_read(rig)
    return float(columns.value[0])
