"""The uplink: sends what the outbox holds over the link and deletes only what central settled.

The protocol is docs/reference/link.md. A session ends at the first fault; the next one begins with
what `welcome` says is settled, so that nothing that happened to the last one matters.
"""

import asyncio
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from edge.clockstate import clock_state
from edge.holes import GapReason
from edge.outbox import Outbox
from edge.sealed import Sealed
from edge.window import Window
from shared import link
from shared.backoff import Backoff
from shared.clock import MICROSECONDS, Clock
from shared.errors import FrameInvalid, SpineError
from shared.logs import get

SOFTWARE: Final = "spine-edge 0.1.0"
HANDSHAKE_S: Final = 15.0
NOT_WELCOME_S: Final = 30.0
FETCHED: Final = 16
TICK_S: Final = 0.5
BARRED: Final = frozenset({4403, 4409})
"""Close codes after which a quick new try only does harm: revoked, fenced by another session."""

_log = get("uplink")


class LinkDown(SpineError):
    """The session ended; `wait_s` is the least time before another is tried."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        """Keep the cause in words and the wait."""
        self.wait_s = wait_s
        super().__init__(text)


class Trust(Protocol):
    """Where the uplink gets the gateway's certificate from; renewal may change it."""

    def link_context(self) -> ssl.SSLContext:
        """Make a TLS context with the newest certificate."""
        ...


class Configuration(Protocol):
    """What the uplink tells and asks about the configuration; see `edge.desired`."""

    @property
    def revision(self) -> int:
        """The newest revision of central that was agreed on."""
        ...

    def connected(self) -> None:
        """Take note that a session began."""
        ...

    def want(self, frame: link.Desired) -> None:
        """Take note of what central wants; returns at once."""
        ...

    async def report(self) -> link.Reported:
        """Wait until there is something to report."""
        ...

    def unsupported(self) -> None:
        """Take note that central does not serve reports."""
        ...


class Commands(Protocol):
    """What the uplink hands on of commands; see `edge.commands.orders`."""

    def connected(self) -> None:
        """Take note that a session began."""
        ...

    def order(self, frame: link.Command | link.Outcome) -> None:
        """Take what central orders, or that it knows an outcome; returns at once."""
        ...

    async def outcome(self) -> link.Outcome:
        """Wait until a command has ended."""
        ...

    def unsupported(self) -> None:
        """Take note that central does not serve outcomes."""
        ...


@dataclass(slots=True)
class Uplink:
    """The gateway's end of the link."""

    url: str
    trust: Trust
    outbox: Outbox
    clock: Clock
    trusted_clock: bool = False
    settle_on_accepted: bool = False
    """Only for the negative control of the delivery proof: it loses readings."""
    configuration: Configuration | None = None
    commands: Commands | None = None
    is_connected: bool = False
    problem: str = "not connected yet"
    since_us: int | None = None
    """Since when it is connected or not; None before the first try."""
    sent_bytes: int = 0
    received_bytes: int = 0
    clock_offset_s: float | None = None
    """By how much central's clock is ahead, as the last welcome told; half a round trip exact."""
    _slow_until_s: float = 0.0

    async def run(self) -> None:
        """Keep a session with central, for ever."""
        backoff = Backoff(base_s=0.5, cap_s=30.0, floor_s=0.1)
        while True:
            try:
                # A task of its own: on Python 3.11.2 a task group that failed leaves a cancel
                # request on its task, and the next timeout there would end that task.
                await asyncio.create_task(self._session(backoff))
            except LinkDown as error:
                self._note_down(str(error))
                await asyncio.sleep(max(error.wait_s, backoff.next_s()))

    def _note_down(self, problem: str) -> None:
        if self.is_connected or problem != self.problem:
            _log.warning("link to central is down", error=problem, url=self.url)
        if self.is_connected or self.since_us is None:
            self.since_us = self.clock.now_us()
        self.is_connected = False
        self.problem = problem

    async def _session(self, backoff: Backoff) -> None:
        socket = await self._connected()
        try:
            welcome = await self._greet(socket)
            _log.info("link to central is up", url=self.url)
            self.is_connected, self.problem = True, ""
            self.since_us = self.clock.now_us()
            backoff.reset()
            await self._exchange(socket, welcome)
        except (ConnectionClosed, FrameInvalid) as error:
            raise _end(error) from error
        finally:
            await socket.close()

    async def _exchange(self, socket: ClientConnection, welcome: link.Welcome) -> None:
        window = Window(welcome.window_bytes, self.outbox.index.next_id)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(socket, window))
                if self.configuration is not None:
                    group.create_task(self._report(socket, self.configuration))
                if self.commands is not None:
                    group.create_task(self._tell_outcomes(socket, self.commands))
                group.create_task(self._send(socket, window, welcome.max_body_bytes))
        except* (ConnectionClosed, FrameInvalid, LinkDown) as ends:
            first = next(_each(ends))
        raise _end(first) from first

    async def _connected(self) -> ClientConnection:
        try:
            return await connect(
                self.url,
                ssl=self.trust.link_context(),
                subprotocols=[link.SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
                compression=None,
                max_size=link.MAX_FRAME_BYTES,
                open_timeout=HANDSHAKE_S,
                ping_interval=10,
                ping_timeout=20,
                close_timeout=2,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            wait_s = NOT_WELCOME_S if status == 403 else 0.0
            raise LinkDown(f"central refuses this gateway (HTTP {status})", wait_s) from error
        except (OSError, InvalidHandshake, TimeoutError, EOFError, ConnectionClosed) as error:
            text = str(error) or type(error).__name__
            raise LinkDown(f"central cannot be reached: {text}") from error

    async def _greet(self, socket: ClientConnection) -> link.Welcome:
        pending = tuple(
            link.Pending(epoch=epoch, seqs=seqs) for epoch, seqs in self.outbox.index.pending()
        )
        hello = link.Hello(
            version=link.VERSION,
            session=secrets.token_bytes(16),
            pending=pending,
            clock=clock_state(self.clock, trusted=self.trusted_clock),
            software=SOFTWARE,
            config_revision=self.configuration.revision if self.configuration else 0,
        )
        asked_us = self.clock.now_us()
        await self._put(socket, hello)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                frame = _frame(await socket.recv())
        except TimeoutError as error:
            raise LinkDown("central does not answer hello") from error
        if not isinstance(frame, link.Welcome):
            raise LinkDown(f"central answers hello with {type(frame).__name__}")
        midway_us = (asked_us + self.clock.now_us()) / 2
        self.clock_offset_s = (frame.utc_us - midway_us) / MICROSECONDS
        self.outbox.index.settle(frame.settled)
        await self.outbox.flush(now=True)
        return frame

    async def _put(self, socket: ClientConnection, frame: link.Frame) -> None:
        data = link.pack(frame)
        await socket.send(data)
        self.sent_bytes += len(data)

    async def _receive(self, socket: ClientConnection, window: Window) -> None:
        async for data in socket:
            self.received_bytes += len(data)
            await self._take(socket, window, _frame(data))
        raise LinkDown("central closed the link")

    async def _take(self, socket: ClientConnection, window: Window, frame: link.Frame) -> None:
        match frame:
            case link.Receipt():
                self._take_receipt(window, frame)
            case link.NeedPointSet():
                await self._send_point_set(socket, frame.hash)
            case link.RetryAfter():
                self._put_off(window, frame)
            case link.RefusedFrame():
                problem = frame.problem
                _log.error(
                    "central put a batch into quarantine", code=problem.code, detail=problem.detail
                )
                await self.outbox.refused(frame.epoch, frame.seq, problem.code, problem.detail)
            case link.Unsupported():
                self._take_unsupported(frame.frame)
            case link.Desired() if self.configuration is not None:
                self.configuration.want(frame)
            case link.Command() | link.Outcome() if self.commands is not None:
                self.commands.order(frame)
            case _:
                name = type(frame).__name__.lower()
                await self._put(socket, link.Unsupported(frame=name))

    async def _report(self, socket: ClientConnection, configuration: Configuration) -> None:
        configuration.connected()
        while True:
            await self._put(socket, await configuration.report())

    async def _tell_outcomes(self, socket: ClientConnection, commands: Commands) -> None:
        commands.connected()
        while True:
            await self._put(socket, await commands.outcome())

    def _take_unsupported(self, name: str) -> None:
        if name == "reported" and self.configuration is not None:
            self.configuration.unsupported()
        elif name == "outcome" and self.commands is not None:
            self.commands.unsupported()
        else:
            _log.warning("central does not serve a frame", frame=name)

    def _take_receipt(self, window: Window, receipt: link.Receipt) -> None:
        window.note_accepted(receipt.accepted)
        settled = receipt.settled
        if self.settle_on_accepted:
            settled += tuple(_as_if_settled(one) for one in receipt.accepted)
        window.note_settled(settled)
        self.outbox.index.settle(settled)
        self.outbox.committed.set()

    async def _send_point_set(self, socket: ClientConnection, hash_: bytes) -> None:
        points = await self.outbox.point_set(hash_)
        if points is None:
            _log.error("central asks for a point set this gateway never had", hash=hash_.hex())
            return
        await self._put(socket, link.PointSetFrame(hash=hash_, points=points.rows()))

    def _put_off(self, window: Window, frame: link.RetryAfter) -> None:
        until_s = self.clock.monotonic_s() + frame.seconds
        window.put_off(frame.epoch, frame.seq, until_s)
        self._slow_until_s = max(self._slow_until_s, until_s)
        _log.info("central asks to wait", reason=frame.reason, seconds=frame.seconds)

    async def _send(self, socket: ClientConnection, window: Window, max_body: int) -> None:
        while True:
            self.outbox.committed.clear()
            sent = 0
            if window.has_room() and self.clock.monotonic_s() >= self._slow_until_s:
                sent = await self._send_some(socket, window, max_body)
            if not sent:
                await self._more_to_do()

    async def _more_to_do(self) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await self.outbox.committed.wait()
        except TimeoutError:
            return

    async def _send_some(self, socket: ClientConnection, window: Window, max_body: int) -> int:
        batches = await self._next(window)
        for batch in batches:
            if len(batch.body) > max_body:
                await self.outbox.drop([batch], GapReason.TOO_LARGE)
                continue
            window.note_sent(batch, self.clock.monotonic_s())
            await self._put(socket, _framed(batch))
            if not window.has_room():
                break
        return len(batches)

    async def _next(self, window: Window) -> list[Sealed]:
        is_open = window.may_follow_more()
        top = self.outbox.index.next_id
        live = await self.outbox.fetch(window.live_sent, top, FETCHED) if is_open else []
        if live:
            return live
        again = window.due_again(self.clock.monotonic_s())
        if again is not None:
            return await self.outbox.fetch(again - 1, again + 1, 1)
        return await self._backlog(window) if window.may_follow_backlog() else []

    async def _backlog(self, window: Window) -> list[Sealed]:
        if window.backlog_sent >= window.live_from - 1:
            return []
        found = await self.outbox.fetch(window.backlog_sent, window.live_from, FETCHED)
        if not found:
            # All that is left below was settled in the meantime.
            window.backlog_sent = window.live_from - 1
        return found


def _framed(batch: Sealed) -> link.Batch:
    return link.Batch(
        epoch=batch.epoch,
        seq=batch.seq,
        kind=batch.kind,
        count=batch.count,
        point_set=batch.point_set,
        body=batch.body,
    )


def _as_if_settled(accepted: link.Accepted) -> link.Settled:
    return link.Settled(
        epoch=accepted.epoch, seqs=accepted.seqs, delivered=0, collapsed=0, quarantined=0
    )


def _frame(data: str | bytes) -> link.Frame:
    if isinstance(data, str):
        raise FrameInvalid("not_msgpack", "a text message")
    return link.unpack(data)


def _each(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _end(error: Exception) -> LinkDown:
    if isinstance(error, LinkDown):
        return error
    if isinstance(error, FrameInvalid):
        return LinkDown(f"central sent what is not a frame: {error}")
    closing = error.rcvd if isinstance(error, ConnectionClosed) else None
    if closing is None:
        return LinkDown("the connection to central broke")
    wait_s = NOT_WELCOME_S if closing.code in BARRED else 0.0
    return LinkDown(f"central closed the link: {closing.code} {closing.reason}", wait_s)
