"""One Modbus TCP connection: one request in flight, answers matched by their transaction id.

A connection that broke, timed out or spoke nonsense is closed and stays so: every later request
raises `LinkLost` with the first cause. It does not reconnect; a new connection is a new object.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Self, cast

from protocols.modbus.codec import HEADER_BYTES, NotModbus, frame, read_header
from shared.errors import LinkLost

_TRANSACTIONS: Final = 0x1_0000


@dataclass(slots=True, eq=False)
class _Exchange:
    transaction: int
    answer: asyncio.Future[bytes]
    timer: asyncio.TimerHandle


class Connection(asyncio.Protocol):
    """The client side of one Modbus TCP connection."""

    def __init__(self, peer: str) -> None:
        """Make a connection that is not open yet; `peer` names it in errors."""
        self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._lost: str | None = None
        self._buffer = bytearray()
        self._transaction = 0
        self._exchange: _Exchange | None = None
        self._foreign: int | None = None

    @classmethod
    async def open(cls, host: str, port: int, timeout_s: float) -> Self:
        """Connect within `timeout_s`; raises `LinkLost` that says what to look at."""
        peer = f"{host}:{port}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(lambda: cls(peer), host, port)
        except TimeoutError as error:
            msg = f"Modbus {peer}: no connection within {timeout_s:g} s; is the device reachable?"
            raise LinkLost(msg) from error
        except (OSError, UnicodeError) as error:
            msg = f"Modbus {peer}: cannot connect: {error}; check address, port and device"
            raise LinkLost(msg) from error
        return connection

    async def request(self, unit: int, pdu: bytes, timeout_s: float) -> bytes:
        """Send a request and give the PDU of its answer; raises `LinkLost`.

        The caller makes one request at a time. A request that was cancelled is still with the
        device: the next one first waits for that answer, which is thrown away.
        """
        if self._exchange is not None:
            await asyncio.wait([self._exchange.answer])
        if self._lost is not None or self._transport is None:
            raise LinkLost(self._lost or f"Modbus {self._peer}: not connected")
        self._transaction = (self._transaction + 1) % _TRANSACTIONS
        answer: asyncio.Future[bytes] = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._time_out, timeout_s)
        exchange = self._exchange = _Exchange(self._transaction, answer, timer)
        self._transport.write(frame(self._transaction, unit, pdu))
        try:
            return await answer
        except asyncio.CancelledError:
            exchange.answer = self._loop.create_future()  # what the next request waits for
            raise

    async def close(self) -> None:
        """Close at once; returns when the socket is closed. Never raises for a dead link."""
        self._give_up("closed")
        if self._transport is not None:
            await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio calls this)."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits (asyncio calls this once)."""
        self._give_up(f"connection lost: {exc}" if exc else "the device closed the connection")
        if not self._closed.done():
            self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Cut frames out of the stream; an incomplete one waits for its rest."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= HEADER_BYTES:
            try:
                transaction, size = read_header(buffer, at)
            except NotModbus as error:
                self._give_up(f"this is no Modbus TCP answer ({error}); check address and port")
                return
            if len(buffer) - at < size:
                break
            self._deliver(transaction, bytes(buffer[at + HEADER_BYTES : at + size]))
            at += size
        del buffer[:at]

    def _deliver(self, transaction: int, pdu: bytes) -> None:
        """Hand an answer to the request that waits for it; drop what nobody waits for."""
        exchange = self._exchange
        if exchange is None or exchange.transaction != transaction:
            self._foreign = transaction
            return
        self._settle(exchange)
        if not exchange.answer.done():  # done already: cancelled in this very turn of the loop
            exchange.answer.set_result(pdu)

    def _time_out(self, timeout_s: float) -> None:
        waited = f"no answer within {timeout_s:g} s"
        if self._foreign is not None and self._exchange is not None:
            waited += (
                f" (an answer came with transaction id {self._foreign} instead of"
                f" {self._exchange.transaction})"
            )
        self._give_up(waited)

    def _give_up(self, cause: str) -> None:
        """Close for good and fail what waits; only the first cause counts."""
        if self._lost is None:
            self._lost = f"Modbus {self._peer}: {cause}"
        if self._transport is not None:
            self._transport.abort()
        self._buffer.clear()
        exchange = self._exchange
        if exchange is not None:
            self._settle(exchange)
            if not exchange.answer.done():
                exchange.answer.set_exception(LinkLost(self._lost))
                exchange.answer.exception()  # asked for here: a cancelled request asks no more

    def _settle(self, exchange: _Exchange) -> None:
        exchange.timer.cancel()
        self._exchange = None
        self._foreign = None
