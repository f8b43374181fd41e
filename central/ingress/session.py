"""One gateway's session: hello, welcome, then batches in and receipts out, until one side ends."""

import asyncio
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from central.ingress.hand import Hand, Services
from central.ingress.receipts import Feed
from central.ingress.wire import INVALID, FrameSocket, Peer, SessionEnd
from central.storage.catalogue import note_hello
from central.storage.database import DatabaseAway, Pool, TransactionClash
from shared.clock import to_datetime
from shared.errors import FrameInvalid
from shared.link import (
    MAX_BODY_BYTES,
    TYPES,
    VERSION,
    Batch,
    Frame,
    Hello,
    PointSetFrame,
    Receipt,
    Unsupported,
    Welcome,
)
from shared.logs import get

WRONG_VERSION: Final = 4426
TRY_LATER: Final = 1013
HELLO_TIMEOUT_S: Final = 10.0
WORKERS: Final = 8
"""Batches of one session that are taken at once: appends that meet share a disk flush."""

logger = get("ingress.link")


class LinkSession:
    """Speaks the link with one gateway: one task reads, eight take batches, two tell receipts."""

    def __init__(self, websocket: WebSocket, peer: Peer, services: Services, pool: Pool) -> None:
        self.fingerprint = peer.fingerprint
        self._gateway = peer.gateway
        self._socket = FrameSocket(websocket, peer, services.live, services.clock)
        self._services = services
        self._pool = pool
        self._ending: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()

    def end(self, code: int, reason: str) -> None:
        """Have the session closed with a code; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(SessionEnd(code, reason))

    async def run(self) -> None:
        """Serve the accepted connection until one side ends it."""
        services = self._services
        services.live.enter(self._gateway.gateway_id, self)
        try:
            async with services.receipts.feed(self._gateway) as feed:
                await self._guard(feed)
        finally:
            services.live.leave(self._gateway.gateway_id, self)

    async def _guard(self, feed: Feed) -> None:
        hand = Hand(self._socket, feed, self._services)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_end())
                hello = await self._greet(feed)
                group.create_task(self._note(hello.software))
                group.create_task(self._tell(feed))
                group.create_task(hand.tell_accepted())
                for _ in range(WORKERS):
                    group.create_task(hand.work())
                await self._read(hand)
        except* SessionEnd as ends:
            await self._close(_first(ends))
        except* WebSocketDisconnect:
            logger.info("gateway went", gateway=self._gateway.name)
        finally:
            hand.drop()

    async def _close(self, end: SessionEnd) -> None:
        self._services.metrics.closed.labels(str(end.code)).inc()
        logger.warning(
            "session closed", gateway=self._gateway.name, close_code=end.code, reason=end.reason
        )
        await self._socket.close(end)

    async def _watch_end(self) -> None:
        raise await self._ending

    async def _greet(self, feed: Feed) -> Hello:
        hello = await self._hello()
        try:
            await self._services.receipts.follow(feed, [each.epoch for each in hello.pending])
        except DatabaseAway as error:
            raise SessionEnd(TRY_LATER, "the database is away") from error
        await self._socket.send(
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
            gateway=self._gateway.name,
            project=self._gateway.project,
            software=hello.software,
            clock_synchronised=hello.clock.synchronised,
        )
        return hello

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await self._socket.receive()
        except TimeoutError as error:
            raise SessionEnd(INVALID, "no hello in time") from error
        except FrameInvalid as error:
            raise SessionEnd(INVALID, str(error)) from error
        if not isinstance(hello, Hello):
            raise SessionEnd(INVALID, "the first frame is a hello")
        if hello.version != VERSION:
            raise SessionEnd(WRONG_VERSION, f"speaks {VERSION}")
        return hello

    async def _read(self, hand: Hand) -> None:
        while True:
            try:
                frame = await self._socket.receive()
            except FrameInvalid as error:
                if error.code != "unknown_type":
                    raise SessionEnd(INVALID, str(error)) from error
                await self._socket.send(Unsupported(frame=error.detail[:64]))
            else:
                await self._handle(frame, hand)

    async def _handle(self, frame: Frame, hand: Hand) -> None:
        if isinstance(frame, Batch):
            await hand.pick_up(frame)
        elif isinstance(frame, PointSetFrame):
            await hand.learn(frame)
        elif not isinstance(frame, Unsupported):
            await self._socket.send(Unsupported(frame=_name(frame)))

    async def _tell(self, feed: Feed) -> None:
        while True:
            settled = await feed.next()
            if settled:
                await self._socket.send(Receipt(settled=settled))

    async def _note(self, software: str) -> None:
        now = to_datetime(self._services.clock.now_us())
        try:
            await note_hello(self._pool, self._gateway.gateway_id, software, now)
        except (DatabaseAway, TransactionClash):
            logger.debug("software not noted: the database is away")


def _first(ends: BaseExceptionGroup[SessionEnd]) -> SessionEnd:
    each: BaseException = ends
    while isinstance(each, BaseExceptionGroup):
        each = each.exceptions[0]
    if not isinstance(each, SessionEnd):
        raise TypeError("a group of session ends holds session ends") from each
    return each


def _name(frame: Frame) -> str:
    return next(name for name, model in TYPES.items() if model is type(frame))
