"""A small MQTT 3.1.1 client that only publishes, with QoS 1, on the event loop.

What the broker has not acknowledged when a connection breaks is sent again on the next one, in
order and marked as a duplicate (MQTT 3.1.1, 4.4). It does not subscribe; drivers do that.
"""

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from shared.backoff import Backoff

MAX_UNACKNOWLEDGED: Final = 20
"""What brokers allow in flight by default; beyond it some lose messages."""

_KEEPALIVE_S: Final = 30
_TIMEOUT_S: Final = 10.0
_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 0x10, 0x20, 0x32, 0x40
_DUPLICATE: Final = 0x08
_PING: Final = b"\xc0\x00"
_DISCONNECT: Final = b"\xe0\x00"
_CLEAN_SESSION: Final = 0x02


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens."""

    host: str
    port: int


class PublishingClient:
    """One connection to the broker, kept up by `run` for as long as it is wanted."""

    def __init__(self, broker: Broker, client_id: str) -> None:
        self._broker = broker
        self._client_id = client_id
        self._writer: asyncio.StreamWriter | None = None
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._waiting: dict[int, bytes] = {}
        self._last_id = 0

    @property
    def is_free(self) -> bool:
        """Tell whether it is connected and the broker keeps up."""
        return self._writer is not None and len(self._waiting) < MAX_UNACKNOWLEDGED

    def publish(self, topic: str, payload: bytes) -> None:
        """Send; only to be called while `is_free`."""
        if self._writer is None:
            msg = f"{self._client_id} is not connected"
            raise ConnectionError(msg)
        self._last_id = self._last_id % 0xFFFF + 1
        packet = packed(_PUBLISH, _text(topic), struct.pack(">H", self._last_id), payload)
        self._waiting[self._last_id] = packet
        self._settled.clear()
        self._writer.write(packet)

    def leave(self) -> None:
        """Disconnect, and stay away until `come_back`."""
        self._wanted.clear()
        if self._writer is not None:
            self._hang_up(self._writer)

    def come_back(self) -> None:
        """Connect again."""
        self._wanted.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until the broker has acknowledged everything, but not longer than the limit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._settled.wait()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        backoff = Backoff(cap_s=5.0)
        while True:
            await self._wanted.wait()
            with suppress(OSError, EOFError, TimeoutError):
                await self._session(backoff)
            await asyncio.sleep(backoff.next_s())

    async def _session(self, backoff: Backoff) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(self._broker.host, self._broker.port)
        try:
            await self._greet(reader, writer)
            backoff.reset()
            for packet in self._waiting.values():
                writer.write(bytes((packet[0] | _DUPLICATE,)) + packet[1:])
            if self._wanted.is_set():
                self._writer = writer
                await self._read(reader, writer)
        finally:
            self._hang_up(writer)
            with suppress(OSError):
                await writer.wait_closed()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flags = struct.pack(">BBH", 4, _CLEAN_SESSION, _KEEPALIVE_S)
        writer.write(packed(_CONNECT, _text("MQTT"), flags, _text(self._client_id)))
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await reader.readexactly(4)
        if answer[0] != _CONNACK or answer[3] != 0:
            msg = f"the broker refuses {self._client_id} with code {answer[3]}"
            raise ConnectionError(msg)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take acknowledgements; a broker that is silent is pinged once, then given up."""
        is_pinged = False
        while True:
            try:
                async with asyncio.timeout(_KEEPALIVE_S / 2):
                    kind, length = await reader.readexactly(2)
            except TimeoutError:
                if is_pinged:
                    raise
                writer.write(_PING)
                is_pinged = True
                continue
            is_pinged = False
            body = await reader.readexactly(length)
            if kind == _PUBACK:
                self._acknowledge(int.from_bytes(body[:2], "big"))

    def _acknowledge(self, packet_id: int) -> None:
        self._waiting.pop(packet_id, None)
        if not self._waiting:
            self._settled.set()

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        if not writer.is_closing():
            writer.write(_DISCONNECT)
            writer.close()


def packed(kind: int, *parts: bytes) -> bytes:
    """Make a packet: its kind, its length in 7-bit groups (MQTT 3.1.1, 2.2.3), its parts."""
    body = b"".join(parts)
    length, groups = len(body), bytearray()
    while True:
        length, group = divmod(length, 128)
        groups.append(group | (0x80 if length else 0))
        if not length:
            return bytes((kind,)) + bytes(groups) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded
