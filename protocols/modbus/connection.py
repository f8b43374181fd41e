"""One Modbus link: one request in flight, answers matched by transaction id, or unit and function.

A connection that broke, spoke nonsense or of which no unit answers is closed and stays so: whatever
is asked later raises `LinkLost` with the first cause. It does not reconnect; a new connection is a
new object. A unit that is silent while others are expected to answer costs its own request alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, cast

from protocols.modbus.codec import NotModbus, is_from_gateway
from protocols.modbus.framing import FOREIGN, Framing, RtuFraming, TcpFraming
from protocols.modbus.options import ModbusDeviceOptions
from protocols.modbus.serial_line import open_serial
from shared.errors import LinkLost

_TRANSACTIONS: Final = 0x1_0000
_BUFFER_BYTES: Final = 8 * 1024


@dataclass(slots=True, eq=False)
class _Exchange:
    """Requests that are made one after the other, and the answers so far."""

    pdus: Sequence[bytes]
    unit: int
    timeout_s: float
    is_wanted_back: Callable[[], bool]
    future: asyncio.Future[list[bytes]]
    may_be_silent: bool = False
    answers: list[bytes] = field(default_factory=list)
    is_abandoned: bool = False


class NoAnswer(LinkLost):
    """A unit did not answer in time."""


class Connection(asyncio.BufferedProtocol):
    """The client side of one Modbus link.

    The next request leaves as soon as an answer has come, without a turn of the event loop between:
    that, and a receive buffer of its own, is most of what makes it cheap.
    """

    def __init__(self, options: ModbusDeviceOptions) -> None:
        """Make a connection that is not open yet."""
        self._loop = asyncio.get_running_loop()
        self._peer = options.address
        self._is_rtu = options.transport != "tcp"
        self._framing: Framing = RtuFraming() if self._is_rtu else TcpFraming()
        self.units = 1
        self._unanswered = 0
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._lost: str | None = None
        self._data = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._data)
        self._filled = 0
        self._transaction = 0
        self._foreign: int | None = None
        self._exchange: _Exchange | None = None
        self._deadline_s = 0.0
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, options: ModbusDeviceOptions) -> Self:
        """Connect within `connect_timeout_s`; raises `LinkLost` that says what to look at."""
        if options.transport == "rtu":
            connection = cls(options)
            await open_serial(options, connection)
            return connection
        host, port, timeout_s = options.host or "", options.port, options.connect_timeout_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(lambda: cls(options), host, port)
        except TimeoutError as error:
            msg = f"Modbus {host}:{port}: no connection within {timeout_s:g} s; is it reachable?"
            raise LinkLost(msg) from error
        except (OSError, UnicodeError) as error:
            msg = f"Modbus {host}:{port}: cannot connect: {error}; check address, port and device"
            raise LinkLost(msg) from error
        return connection

    @property
    def is_open(self) -> bool:
        """Tell whether it can be asked."""
        return self._lost is None and self._transport is not None

    async def ask(
        self,
        pdus: Sequence[bytes],
        unit: int,
        timeout_s: float,
        is_wanted_back: Callable[[], bool] = lambda: False,
        *,
        may_be_silent: bool = False,
    ) -> list[bytes]:
        """Make the requests one after the other and give the answers' PDUs; raises `LinkLost`.

        A gateway's "device not reached" ends the row early: it would take as long for every other
        request; so does `is_wanted_back`, when it says that somebody else is to go before the next
        one. The silence of a unit that `may_be_silent` is not taken for that of the link. The
        caller asks once at a time. When it is cancelled, the request under way is still with the
        device: the next one first waits for that answer, which is thrown away.
        """
        if self._exchange is not None:
            await asyncio.wait([self._exchange.future])
        if self._lost is not None or self._transport is None:
            raise LinkLost(self._lost or f"Modbus {self._peer}: not connected")
        if not pdus:
            return []
        exchange = self._exchange = _Exchange(
            pdus, unit, timeout_s, is_wanted_back, self._loop.create_future(), may_be_silent
        )
        self._send(exchange)
        try:
            return await exchange.future
        except asyncio.CancelledError:
            exchange.is_abandoned = True
            exchange.future = self._loop.create_future()  # what the next request waits for
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

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the free rest of the buffer; a frame's 260 bytes always fit."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Cut frames out of the stream; an incomplete one waits for its rest."""
        end = self._filled + nbytes
        at = 0
        while at < end:
            try:
                cut = self._framing.cut(self._view, at, end)
            except NotModbus as error:
                if self._is_rtu:
                    at = end  # noise of the line: the answer that it broke is waited for in vain
                    break
                self._give_up(
                    f"this is no Modbus answer ({error}); check address, port and transport"
                )
                return
            if cut is None:
                break
            transaction, pdu, size = cut
            self._deliver(transaction, pdu)
            at += size
        self._filled = end - at
        if at and self._filled:
            self._data[: self._filled] = self._data[at:end]

    def _send(self, exchange: _Exchange) -> None:
        assert self._transport is not None  # noqa: S101 - `ask` looked
        pdu = exchange.pdus[len(exchange.answers)]
        self._transaction = (self._transaction + 1) % _TRANSACTIONS
        self._foreign = None
        self._deadline_s = self._loop.time() + exchange.timeout_s
        if self._watch is not None and self._watch.when() > self._deadline_s:
            self._watch.cancel()  # of a unit that may take longer
            self._watch = None
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline_s, self._look)
        self._transport.write(self._framing.wrap(self._transaction, exchange.unit, pdu))

    def _deliver(self, transaction: int, pdu: bytes) -> None:
        """Hand an answer to the exchange that waits for it; drop what nobody waits for."""
        exchange = self._exchange
        if exchange is None or transaction != self._transaction:
            self._foreign = transaction
            return
        self._unanswered = 0
        exchange.answers.append(pdu)
        if not _is_over(exchange, pdu):
            self._send(exchange)
            return
        self._exchange = None
        if not exchange.future.done():  # done already: cancelled in this very turn of the loop
            exchange.future.set_result(exchange.answers)

    def _look(self) -> None:
        """Give up if the deadline has passed; one timer serves many requests."""
        self._watch = None
        if self._exchange is None:
            return
        if self._loop.time() < self._deadline_s:
            self._watch = self._loop.call_at(self._deadline_s, self._look)
            return
        waited = f"no answer within {self._exchange.timeout_s:g} s"
        if self._foreign is not None:
            waited += (
                " (an answer of another unit or function came)"
                if self._foreign == FOREIGN
                else f" (an answer came with transaction id {self._foreign} instead of"
                f" {self._transaction})"
            )
        self._unanswered += not self._exchange.may_be_silent
        self._filled = 0
        if self._unanswered >= self.units:
            self._give_up(waited, NoAnswer)
            return
        exchange, self._exchange = self._exchange, None
        _fail(exchange, NoAnswer(f"Modbus {self._peer} unit {exchange.unit}: {waited}"))

    def _give_up(self, cause: str, kind: type[LinkLost] = LinkLost) -> None:
        """Close for good and fail what waits; only the first cause counts."""
        if self._lost is None:
            self._lost = f"Modbus {self._peer}: {cause}"
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._filled = 0
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            _fail(exchange, kind(self._lost))


def _is_over(exchange: _Exchange, answer: bytes) -> bool:
    """Tell whether the requests are made, or are to be made no further."""
    return (
        len(exchange.answers) == len(exchange.pdus)
        or exchange.is_abandoned
        or is_from_gateway(answer)
        or exchange.is_wanted_back()
    )


def _fail(exchange: _Exchange, error: LinkLost) -> None:
    if not exchange.future.done():
        exchange.future.set_exception(error)
        exchange.future.exception()  # asked for here: a cancelled request asks no more
