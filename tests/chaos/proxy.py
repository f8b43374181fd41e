"""A proxy on the link that loses, doubles and swaps whole frames, and can cut the line.

It ends TLS on both sides: towards the gateway with a server certificate of central's own CA,
towards central with the gateway's own certificate, so neither side knows of it. It never changes a
frame's bytes.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response

from shared.link import MAX_FRAME_BYTES, SUBPROTOCOL
from tests.chaos.fates import Fate, Fates

HOLD_S: Final = 0.3
"""A frame that is to be swapped waits for the next one at most so long."""

CONNECT_S: Final = 10.0

Socket = ClientConnection | ServerConnection


class Direction(StrEnum):
    """Which way frames go."""

    UP = "up"
    DOWN = "down"


@dataclass(slots=True)
class Line:
    """One direction of all connections: open, or cut for a while."""

    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()


@dataclass(slots=True)
class Proxy:
    """A listening proxy; `running_proxy` makes it.

    `upstream` is central's link, `trust` gives the TLS context of the gateway's newest certificate.
    """

    upstream: str
    trust: Callable[[], ssl.SSLContext]
    fates: Fates
    seed: int
    port: int = 0
    connections: int = 0
    lines: dict[Direction, Line] = field(default_factory=lambda: {it: Line() for it in Direction})
    _centrals: dict[ServerConnection, ClientConnection] = field(default_factory=dict)

    @asynccontextmanager
    async def cut(self, *directions: Direction) -> AsyncIterator[None]:
        """Forward nothing in these directions; what waits goes on afterwards if the line holds."""
        for direction in directions:
            self.lines[direction].open.clear()
        try:
            yield
        finally:
            for direction in directions:
                self.lines[direction].open.set()

    def hang_up(self) -> None:
        """Break all connections on both sides at once, as a line that falls does."""
        for gateway, central in list(self._centrals.items()):
            gateway.transport.abort()
            central.transport.abort()

    async def admit(self, gateway: ServerConnection, _: Request) -> Response | None:
        """Connect to central first: who is refused there is refused here, with the same status."""
        try:
            self._centrals[gateway] = await connect(
                self.upstream,
                ssl=self.trust(),
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
                compression=None,
                max_size=MAX_FRAME_BYTES,
                open_timeout=CONNECT_S,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            return gateway.respond(HTTPStatus(status), "central refuses\n")
        except (OSError, InvalidHandshake, TimeoutError, EOFError, ConnectionClosed):
            return gateway.respond(HTTPStatus.BAD_GATEWAY, "central is away\n")
        return None

    async def forward(self, gateway: ServerConnection) -> None:
        """Forward both ways until one side goes; then the other is told the same."""
        central = self._centrals[gateway]
        self.connections += 1
        number = self.connections
        ways = (
            self._pump(gateway, central, Direction.UP, number),
            self._pump(central, gateway, Direction.DOWN, number),
        )
        pumps = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            del self._centrals[gateway]
            await _end_like(central, gateway)
            await _end_like(gateway, central)

    async def _pump(self, source: Socket, sink: Socket, way: Direction, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}/{way}")
        held: bytes | str | None = None
        with suppress(ConnectionClosed):
            while True:
                data = await _next(source, HOLD_S if held is not None else None)
                fate = Fate.PASS if data is None else self.fates.draw(rng)
                await self.lines[way].open.wait()
                if fate is Fate.SWAP and held is None:
                    held = data
                    continue
                for one in _sent(data, held, fate):
                    await sink.send(one)
                held = None


def _sent(data: bytes | str | None, held: bytes | str | None, fate: Fate) -> list[bytes | str]:
    """List what goes on: the new frame as often as its fate says, then the one held back."""
    sent: list[bytes | str] = []
    if data is not None:
        sent += {Fate.LOSE: [], Fate.DOUBLE: [data, data]}.get(fate, [data])
    return sent if held is None else [*sent, held]


async def _next(source: Socket, wait_s: float | None) -> bytes | str | None:
    """Receive a frame; None if none came in time."""
    try:
        async with asyncio.timeout(wait_s):
            return await source.recv()
    except TimeoutError:
        return None


async def _end_like(end: Socket, other: Socket) -> None:
    """Close one side as the other was closed: with its code, or by breaking the connection."""
    received = other.protocol.close_rcvd
    if received is None:
        end.transport.abort()
    else:
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await end.close(received.code, received.reason)
        end.transport.abort()


@asynccontextmanager
async def running_proxy(proxy: Proxy, certificate: ssl.SSLContext) -> AsyncIterator[Proxy]:
    """Serve a proxy on a free port of loopback with this server certificate."""
    async with AsyncExitStack() as stack:
        server: Server = await stack.enter_async_context(
            serve(
                proxy.forward,
                "127.0.0.1",
                0,
                ssl=certificate,
                process_request=proxy.admit,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
                compression=None,
                max_size=MAX_FRAME_BYTES,
                close_timeout=2,
                open_timeout=CONNECT_S * 2,
            )
        )
        stack.callback(proxy.hang_up)
        proxy.port = next(iter(server.sockets)).getsockname()[1]
        yield proxy
