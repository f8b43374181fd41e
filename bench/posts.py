"""Batches posted one by one over kept HTTP connections, as cheaply as a client can.

What a gateway would do without a link: a request a batch, and its answer before the next.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

from bench.gateways import DEADLINE_S, HOST, LinkBroken

CONNECTIONS: Final = 8
"""A gateway's, so that a request of one is under way while another is answered."""
_HEAD: Final = "POST /batch HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"


class Post(asyncio.Protocol):
    """One kept connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: list[bytes] = []
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next request."""
        self._buffer += data
        if not self._buffer.endswith(b"\r\n\r\n"):
            return
        if not self._buffer.startswith(b"HTTP/1.1 204"):
            self._break(f"answered {bytes(self._buffer[:200])!r}")
            return
        self._buffer.clear()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._break(f"the connection ended: {exc or 'closed'}")

    async def pour(self, requests: Sequence[bytes]) -> None:
        """Send requests one by one, and wait for the last answer."""
        self._waiting = list(reversed(requests))
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        async with asyncio.timeout(DEADLINE_S):
            await self._done

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if self._waiting and self._transport is not None:
            self._transport.write(self._waiting.pop())
        elif self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _break(self, why: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(LinkBroken(why))


class Posts:
    """The connections of one gateway."""

    def __init__(self, connections: Sequence[Post]) -> None:
        self._connections = connections

    async def pour(self, bodies: Sequence[bytes]) -> None:
        """Post bodies over all connections, and wait for all answers."""
        requests = [_HEAD.format(host=HOST, size=len(body)).encode() + body for body in bodies]
        count = len(self._connections)
        pours = (one.pour(requests[at::count]) for at, one in enumerate(self._connections))
        await asyncio.gather(*pours)


@asynccontextmanager
async def posting(port: int, tls: ssl.SSLContext) -> AsyncIterator[Posts]:
    """Connect."""
    loop = asyncio.get_running_loop()
    connections: list[Post] = []
    try:
        for _ in range(CONNECTIONS):
            made = await loop.create_connection(
                Post, "127.0.0.1", port, ssl=tls, server_hostname=HOST
            )
            connections.append(made[1])
        yield Posts(connections)
    finally:
        for one in connections:
            one.close()
