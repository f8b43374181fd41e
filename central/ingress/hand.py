"""The batches one session has in hand: received, not yet answered. Bounded by count and bytes."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from central.ingress.intake import Intake
from central.ingress.metrics import IngressMetrics
from central.ingress.point_sets import PointSets
from central.ingress.receipts import Feed, ReceiptPoller
from central.ingress.sessions import LiveSessions
from central.ingress.wire import INVALID, FrameSocket, SessionEnd
from central.settings import Settings
from central.storage.database import DatabaseAway, TransactionClash
from shared.clock import Clock
from shared.errors import FrameInvalid
from shared.link import (
    MAX_BODY_BYTES,
    Accepted,
    Batch,
    NeedPointSet,
    PointSetFrame,
    Receipt,
    RetryAfter,
    ranges_of,
)

BUSY_S: Final = 0.5
AWAY_S: Final = 2.0
MAX_EPOCHS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Services:
    """What every session works with."""

    settings: Settings
    clock: Clock
    intake: Intake
    point_sets: PointSets
    receipts: ReceiptPoller
    live: LiveSessions
    metrics: IngressMetrics


class Hand:
    """Takes batches up and answers each once, or holds it until its point set is known.

    `work` answers them, and `tell_accepted` tells of those that are in the log.

    A batch that finds the hand full, by count or by bytes, is answered `retry_after`, busy.
    """

    def __init__(self, socket: FrameSocket, feed: Feed, services: Services) -> None:
        settings = services.settings
        self._socket = socket
        self._feed = feed
        self._services = services
        self._most = settings.batches_in_hand
        self._most_bytes = 2 * max(settings.window_bytes, MAX_BODY_BYTES)
        self._waiting: asyncio.Queue[Batch] = asyncio.Queue(self._most)
        self._held: dict[bytes, dict[tuple[int, int], Batch]] = {}
        self._learned: set[bytes] = set()
        self._count = 0
        self._bytes = 0
        self._accepted: defaultdict[int, list[int]] = defaultdict(list)
        self._has_accepted = asyncio.Event()

    async def pick_up(self, batch: Batch) -> None:
        """Take a batch in hand, or put it off."""
        is_full = self._count >= self._most
        if is_full or (self._count and self._bytes + len(batch.body) > self._most_bytes):
            await self._put_off(batch, BUSY_S, "busy")
            return
        self._count += 1
        self._bytes += len(batch.body)
        self._services.metrics.in_hand.inc()
        self._waiting.put_nowait(batch)

    async def learn(self, frame: PointSetFrame) -> None:
        """Keep a point set and let go on the batches that were held for it."""
        try:
            await self._services.point_sets.keep(self._feed.gateway, frame)
        except FrameInvalid as error:
            raise SessionEnd(INVALID, str(error)) from error
        except (DatabaseAway, TransactionClash):
            for batch in self._held.pop(frame.hash, {}).values():
                self._let_go(batch)
                await self._put_off(batch, AWAY_S, "database_away")
            return
        self._learned.add(frame.hash)
        for batch in self._held.pop(frame.hash, {}).values():
            self._waiting.put_nowait(batch)

    async def work(self) -> None:
        """Answer batches until the session ends; several may run at once."""
        while True:
            batch = await self._waiting.get()
            with self._services.metrics.publish_seconds.time():
                await self._answer(batch)

    async def tell_accepted(self) -> None:
        """Tell what the log has until the session ends: what it took together in one receipt."""
        while True:
            await self._has_accepted.wait()
            self._has_accepted.clear()
            accepted, self._accepted = self._accepted, defaultdict(list)
            told = (Accepted(epoch=epoch, seqs=ranges_of(seqs)) for epoch, seqs in accepted.items())
            await self._socket.send(Receipt(accepted=tuple(told)))

    def drop(self) -> None:
        """Forget what is in hand: the session ended, its gateway sends it again."""
        self._services.metrics.in_hand.dec(self._count)
        self._count = 0

    async def _answer(self, batch: Batch) -> None:
        if await self._is_settled(batch):
            self._services.metrics.batches.labels("settled").inc()
            self._let_go(batch)
            self._feed.repeat(batch.epoch, batch.seq)
            return
        answer = await self._services.intake.take(self._feed.gateway, batch)
        if isinstance(answer, NeedPointSet):
            await self._hold(batch, answer)
            return
        self._let_go(batch)
        if isinstance(answer, Receipt):
            self._accepted[batch.epoch].append(batch.seq)
            self._has_accepted.set()
        else:
            await self._socket.send(answer)

    async def _is_settled(self, batch: Batch) -> bool:
        told = self._feed.told
        if not told.knows(batch.epoch):
            if len(told) >= MAX_EPOCHS:
                raise SessionEnd(INVALID, f"more than {MAX_EPOCHS} epochs in one session")
            try:
                await self._services.receipts.follow(self._feed, [batch.epoch])
            except DatabaseAway:
                return False  # the intake meets the same outage and answers for it
        return told.is_settled(batch.epoch, batch.seq)

    async def _hold(self, batch: Batch, need: NeedPointSet) -> None:
        if need.hash in self._learned:
            # The set came while this batch was being looked at.
            self._waiting.put_nowait(batch)
            return
        held = self._held.setdefault(need.hash, {})
        is_first, name = not held, (batch.epoch, batch.seq)
        is_resent = name in held
        if is_resent:
            self._let_go(batch)
        else:
            held[name] = batch
        # Sent again while it is held: the question or its answer did not arrive.
        if is_first or is_resent:
            await self._socket.send(need)

    def _let_go(self, batch: Batch) -> None:
        self._count -= 1
        self._bytes -= len(batch.body)
        self._services.metrics.in_hand.dec()

    async def _put_off(self, batch: Batch, seconds: float, reason: str) -> None:
        self._services.metrics.batches.labels("put_off").inc()
        await self._socket.send(
            RetryAfter(epoch=batch.epoch, seq=batch.seq, seconds=seconds, reason=reason)
        )
