"""Gateways of the bench: many batches over a few links at once, as cheaply as a client can.

Frames are made and masked before anything is measured, and answers are only counted, so that the
server sets the pace. A link takes every answer for a receipt; any other one breaks it.
"""

import asyncio
import os
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgpack
from websockets.frames import OP_BINARY, OP_PING, OP_PONG, Frame

from shared.link import SUBPROTOCOL, VERSION, WINDOW_BATCHES, ClockState, Hello, PointSetFrame, pack
from shared.model import PointSet

HOST: Final = "localhost"
DEADLINE_S: Final = 300.0
_UPGRADE: Final = (
    "GET /link HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
)


class LinkBroken(Exception):
    """The server ended a link, or answered otherwise than it should."""


@dataclass(slots=True)
class Told:
    """What the receipts of one link have told so far, in batches and readings."""

    accepted: int = 0
    settled: int = 0
    delivered: dict[int, int] = field(default_factory=dict)
    """Readings of each epoch."""


class Link(asyncio.Protocol):
    """One connection: batches out by a window, receipts in."""

    def __init__(self) -> None:
        self.told = Told()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._poured: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._frames: Sequence[bytes] = ()
        self._sent = self._ahead = 0
        self._goal = Told()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        port = transport.get_extra_info("peername")[1]
        key = b64encode(os.urandom(16)).decode()
        self._transport.write(_UPGRADE.format(host=HOST, port=port, key=key).encode())

    def data_received(self, data: bytes) -> None:
        """Take what came: the end of the upgrade, then frames."""
        self._buffer += data
        if not self.ready.done():
            self._upgrade()
        while (frame := _cut(self._buffer)) is not None:
            self._take(*frame)
        self._fill()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._break(f"the link ended: {exc or 'closed'}")

    async def greet(self, points: PointSet) -> int:
        """Say hello and name the points; gives the bytes central lets a gateway send ahead."""
        hello = Hello(
            version=VERSION,
            session=os.urandom(16),
            pending=(),
            clock=ClockState(utc_us=time.time_ns() // 1_000, synchronised=True, boot_id="bench"),
            software="bench",
            config_revision=0,
        )
        self._answer = asyncio.get_running_loop().create_future()
        self._write(masked(pack(hello)))
        async with asyncio.timeout(DEADLINE_S):
            welcome = await self._answer
        self._write(masked(pack(PointSetFrame(hash=points.hash, points=tuple(points.rows())))))
        return int(welcome["window_bytes"])

    async def pour(self, frames: Sequence[bytes], *, until_settled: bool = False) -> None:
        """Send masked batches and wait until all are accepted, or settled too."""
        self._goal = Told(
            self.told.accepted + len(frames), self.told.settled + until_settled * len(frames)
        )
        self._frames, self._sent, self._ahead = frames, 0, 0
        self._poured = asyncio.get_running_loop().create_future()
        self._fill()
        async with asyncio.timeout(DEADLINE_S):
            await self._poured

    def close(self) -> None:
        """End the link."""
        if self._transport is not None:
            self._transport.abort()

    def _upgrade(self) -> None:
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest if found else head)
        if found and b" 101 " in head.partition(b"\r\n")[0]:
            self.ready.set_result(None)
        elif found:
            self._break(f"the upgrade was refused: {head[:200]!r}")

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == OP_PING:
            self._write(Frame(OP_PONG, payload).serialize(mask=True))
            return
        fields = msgpack.unpackb(payload) if opcode == OP_BINARY else {"type": f"opcode {opcode}"}
        if fields["type"] == "receipt":
            self._count(fields)
        elif fields["type"] == "welcome" and self._answer is not None:
            self._answer.set_result(fields)
        else:
            self._break(f"answered {fields}")

    def _count(self, receipt: dict[str, Any]) -> None:
        told, goal = self.told, self._goal
        accepted = sum(_size(each) for each in receipt["accepted"])
        told.accepted += accepted
        self._ahead -= accepted
        for each in receipt["settled"]:
            told.settled += _size(each)
            told.delivered[each["epoch"]] = each["delivered"]
        if self._poured is None or self._poured.done():
            return
        if told.accepted >= goal.accepted and told.settled >= goal.settled:
            self._poured.set_result(None)

    def _fill(self) -> None:
        """Send as many batches as the window has room for."""
        room = min(WINDOW_BATCHES - self._ahead, len(self._frames) - self._sent)
        if room > 0:
            self._write(b"".join(self._frames[self._sent : self._sent + room]))
            self._sent += room
            self._ahead += room

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _break(self, why: str) -> None:
        for waiter in (self.ready, self._answer, self._poured):
            if waiter is not None and not waiter.done():
                waiter.set_exception(LinkBroken(why))


@asynccontextmanager
async def linked(port: int, tls: ssl.SSLContext) -> AsyncIterator[Link]:
    """Connect and upgrade."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(Link, "127.0.0.1", port, ssl=tls, server_hostname=HOST)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await link.ready
        yield link
    finally:
        link.close()


def masked(payload: bytes) -> bytes:
    """Make the WebSocket frame by which a client sends a frame of the link."""
    return Frame(OP_BINARY, payload).serialize(mask=True)


def _cut(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take one whole frame of a server off the buffer: opcode and payload."""
    if len(buffer) < 2:
        return None
    start, size = 2, buffer[1] & 0x7F
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start + size:
        return None
    opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
    del buffer[: start + size]
    return opcode, payload


def _size(part: Mapping[str, Any]) -> int:
    return sum(last - first + 1 for first, last in part["seqs"])
