"""One gateway's session: hello, welcome, then batches in and receipts out, until one side ends."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from central.ingress.intake import Intake
from central.ingress.metrics import IngressMetrics
from central.ingress.point_sets import PointSets
from central.ingress.receipts import Feed, ReceiptPoller
from central.ingress.sessions import REVOKED, LiveSessions
from central.settings import Settings
from central.storage.catalogue import Gateway
from central.storage.database import DatabaseAway
from shared.clock import Clock
from shared.errors import FrameInvalid
from shared.link import (
    MAX_BODY_BYTES,
    TYPES,
    VERSION,
    Batch,
    Frame,
    Hello,
    NeedPointSet,
    PointSetFrame,
    Receipt,
    RetryAfter,
    Unsupported,
    Welcome,
    pack,
    unpack,
)
from shared.logs import get

INVALID: Final = 4400
WRONG_VERSION: Final = 4426
TRY_LATER: Final = 1013
HELLO_TIMEOUT_S: Final = 10.0
MAX_EPOCHS: Final = 10_000
BUSY_S: Final = 0.5
AWAY_S: Final = 2.0

logger = get("ingress.link")


@dataclass(frozen=True, slots=True)
class Services:
    """What a session works with."""

    settings: Settings
    clock: Clock
    intake: Intake
    point_sets: PointSets
    receipts: ReceiptPoller
    live: LiveSessions
    metrics: IngressMetrics


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by its certificate."""

    gateway: Gateway
    fingerprint: bytes
    valid_until_us: int


class SessionEnd(Exception):
    """The session ends with a close code and a short reason."""

    def __init__(self, code: int, reason: str) -> None:
        """Keep what the close frame will say."""
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}")


class LinkSession:
    """Speaks the link with one gateway; at most `batches_in_hand` batches wait, others are put off.

    Three tasks: one reads frames, one takes batches in order, one tells what settled. A batch that
    finds the hand full, by count or by bytes, is answered `retry_after` with the reason busy.
    """

    def __init__(self, websocket: WebSocket, peer: Peer, services: Services) -> None:
        self.fingerprint = peer.fingerprint
        self._websocket = websocket
        self._peer = peer
        self._services = services
        self._ending: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()
        self._hand: asyncio.Queue[Batch] = asyncio.Queue(services.settings.batches_in_hand)
        self._held: dict[bytes, list[Batch]] = {}
        self._in_hand = 0
        self._in_hand_bytes = 0

    def end(self, code: int, reason: str) -> None:
        """Have the session closed with a code; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(SessionEnd(code, reason))

    async def run(self) -> None:
        """Serve the accepted connection until one side ends it."""
        services = self._services
        services.live.enter(self._peer.gateway.gateway_id, self)
        try:
            async with services.receipts.feed(self._peer.gateway) as feed:
                await self._serve(feed)
        finally:
            services.live.leave(self._peer.gateway.gateway_id, self)
            services.metrics.in_hand.dec(self._in_hand)

    async def _serve(self, feed: Feed) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_end())
                await self._greet(feed)
                group.create_task(self._work(feed))
                group.create_task(self._tell(feed))
                await self._read(feed)
        except* SessionEnd as ends:
            await self._close(ends)
        except* WebSocketDisconnect:
            logger.info("gateway went", gateway=self._peer.gateway.name)

    async def _close(self, ends: BaseExceptionGroup[SessionEnd]) -> None:
        end = _first(ends)
        self._services.metrics.closed.labels(str(end.code)).inc()
        logger.warning(
            "session closed", gateway=self._peer.gateway.name, code_=end.code, reason=end.reason
        )
        try:
            await self._websocket.close(end.code, end.reason[:120])
        except (RuntimeError, OSError, WebSocketDisconnect):
            logger.info("gateway was gone before the close", gateway=self._peer.gateway.name)

    async def _watch_end(self) -> None:
        raise await self._ending

    # --- greeting

    async def _greet(self, feed: Feed) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await self._receive()
        except TimeoutError as error:
            raise SessionEnd(INVALID, "no hello in time") from error
        if not isinstance(hello, Hello):
            raise SessionEnd(INVALID, "the first frame is a hello")
        if hello.version != VERSION:
            raise SessionEnd(WRONG_VERSION, f"speaks {VERSION}")
        try:
            epochs = [each.epoch for each in hello.pending]
            await self._services.receipts.follow(feed, epochs)
        except DatabaseAway as error:
            raise SessionEnd(TRY_LATER, "the database is away") from error
        await self._send(
            Welcome(
                version=VERSION,
                settled=feed.told.welcome(),
                utc_us=self._services.clock.now_us(),
                config_revision=0,
                window_bytes=self._services.settings.window_bytes,
                max_body_bytes=MAX_BODY_BYTES,
            )
        )
        logger.info(
            "gateway came",
            gateway=self._peer.gateway.name,
            project=self._peer.gateway.project,
            software=hello.software,
            clock_synchronised=hello.clock.synchronised,
        )

    # --- reading

    async def _read(self, feed: Feed) -> None:
        while True:
            try:
                frame = await self._receive()
            except FrameInvalid as error:
                if error.code != "unknown_type":
                    raise SessionEnd(INVALID, str(error)) from error
                await self._send(Unsupported(frame=error.detail[:64]))
                continue
            await self._handle(frame, feed)

    async def _handle(self, frame: Frame, feed: Feed) -> None:
        if isinstance(frame, Batch):
            await self._pick_up(frame)
        elif isinstance(frame, PointSetFrame):
            await self._learn(frame)
        elif not isinstance(frame, Unsupported):
            await self._send(Unsupported(frame=_name(frame)))

    async def _pick_up(self, batch: Batch) -> None:
        settings = self._services.settings
        room = 2 * max(settings.window_bytes, MAX_BODY_BYTES)
        is_full = self._in_hand >= settings.batches_in_hand
        if is_full or (self._in_hand and self._in_hand_bytes + len(batch.body) > room):
            await self._put_off(batch, BUSY_S, "busy")
            return
        self._in_hand += 1
        self._in_hand_bytes += len(batch.body)
        self._services.metrics.in_hand.inc()
        self._hand.put_nowait(batch)

    async def _learn(self, frame: PointSetFrame) -> None:
        held = self._held.get(frame.hash, [])
        try:
            await self._services.point_sets.keep(self._peer.gateway, frame)
        except FrameInvalid as error:
            raise SessionEnd(INVALID, str(error)) from error
        except DatabaseAway:
            self._held.pop(frame.hash, None)
            for batch in held:
                self._let_go(batch)
                await self._put_off(batch, AWAY_S, "database_away")
            return
        self._held.pop(frame.hash, None)
        for batch in held:
            self._hand.put_nowait(batch)

    # --- working

    async def _work(self, feed: Feed) -> None:
        while True:
            batch = await self._hand.get()
            started = self._services.clock.monotonic_s()
            await self._answer(batch, feed)
            taken_s = self._services.clock.monotonic_s() - started
            self._services.metrics.publish_seconds.observe(taken_s)

    async def _answer(self, batch: Batch, feed: Feed) -> None:
        if await self._is_settled(batch, feed):
            self._services.metrics.batches.labels("settled").inc()
            feed.repeat(batch.epoch, batch.seq)
            self._let_go(batch)
            return
        answer = await self._services.intake.take(self._peer.gateway, batch)
        if isinstance(answer, NeedPointSet):
            await self._hold(batch, answer)
            return
        self._let_go(batch)
        await self._send(answer)

    async def _is_settled(self, batch: Batch, feed: Feed) -> bool:
        if not feed.told.knows(batch.epoch):
            if len(feed.told) >= MAX_EPOCHS:
                raise SessionEnd(INVALID, f"more than {MAX_EPOCHS} epochs in one session")
            try:
                await self._services.receipts.follow(feed, [batch.epoch])
            except DatabaseAway:
                return False  # the intake meets the same outage and answers for it
        return feed.told.is_settled(batch.epoch, batch.seq)

    async def _hold(self, batch: Batch, need: NeedPointSet) -> None:
        is_asked = need.hash in self._held
        self._held.setdefault(need.hash, []).append(batch)
        if not is_asked:
            await self._send(need)

    def _let_go(self, batch: Batch) -> None:
        self._in_hand -= 1
        self._in_hand_bytes -= len(batch.body)
        self._services.metrics.in_hand.dec()

    async def _put_off(self, batch: Batch, seconds: float, reason: str) -> None:
        self._services.metrics.batches.labels("put_off").inc()
        await self._send(
            RetryAfter(epoch=batch.epoch, seq=batch.seq, seconds=seconds, reason=reason)
        )

    # --- telling

    async def _tell(self, feed: Feed) -> None:
        while True:
            settled = await feed.next()
            if settled:
                await self._send(Receipt(settled=settled))

    # --- frames

    async def _receive(self) -> Frame:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._check_certificate()
        data = message.get("bytes")
        if data is None:
            raise SessionEnd(INVALID, "a frame is a binary message")
        return unpack(data)

    def _check_certificate(self) -> None:
        if self._services.live.is_denied(self.fingerprint):
            raise SessionEnd(REVOKED, "this gateway's certificate is revoked")
        if self._services.clock.now_us() > self._peer.valid_until_us:
            raise SessionEnd(REVOKED, "this gateway's certificate has expired")

    async def _send(self, frame: Frame) -> None:
        await self._websocket.send_bytes(pack(frame))


def _first(ends: BaseExceptionGroup[SessionEnd]) -> SessionEnd:
    each: BaseException = ends
    while isinstance(each, BaseExceptionGroup):
        each = each.exceptions[0]
    if not isinstance(each, SessionEnd):
        raise TypeError("a group of session ends holds session ends") from each
    return each


def _name(frame: Frame) -> str:
    return next(name for name, model in TYPES.items() if model is type(frame))
