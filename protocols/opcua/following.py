"""Follows points: pushed as far as the server pushes them, the others read at an interval."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.opcua.codec import Publication, failed, fell_behind, to_columns, within
from protocols.opcua.publishing import Publishing
from protocols.opcua.reading import Plan, Reading
from protocols.opcua.session import Session, Subscription
from shared.clock import Clock
from shared.columns import Columns
from shared.errors import LinkLost, Refused

_GOOD_LIMIT: Final = 1 << 30
_NOT_PUSHED: Final = (
    0x8003_0000, 0x8004_0000, 0x800B_0000, 0x8010_0000, 0x803D_0000, 0x8040_0000, 0x8041_0000,
    0x8043_0000, 0x8044_0000, 0x8045_0000, 0x80DB_0000,
)  # fmt: skip
"""Statuses of a point that could be read all the same: BadOutOfMemory, BadResourceUnavailable,
BadServiceUnsupported, BadTooManyOperations, BadNotSupported, BadNotImplemented,
BadMonitoringModeInvalid, BadMonitoredItemFilterInvalid and -Unsupported, BadFilterNotAllowed,
BadTooManyMonitoredItems."""


@dataclass(slots=True)
class Following:
    """Yields what becomes of the points of a plan until the link is lost."""

    session: Session
    reading: Reading
    clock: Clock
    plan: Plan

    async def all(self) -> AsyncGenerator[Columns, None]:
        """Yield the readings of all points, as the options ask for them to be followed."""
        everything = np.arange(len(self.plan.addresses))
        subscription = await self._subscription()
        if subscription is None:
            async for columns in self._polled(everything):
                yield columns
            return
        is_linked = True
        try:
            async with aclosing(self._subscribed(subscription)) as readings:
                async for columns in readings:
                    yield columns
        except LinkLost:
            is_linked = False
            raise
        finally:
            if is_linked:
                await self.session.delete_subscription(subscription.id)

    async def _subscription(self) -> Subscription | None:
        try:
            return await self.session.create_subscription()
        except Refused:
            if self.session.options.mode == "subscribe":
                raise
            return None

    async def _subscribed(self, subscription: Subscription) -> AsyncGenerator[Columns, None]:
        publishing = Publishing(self.session, subscription, self.session.options.url)
        try:
            statuses = await self.reading.monitor(subscription, self.plan)
            polled = self._left_to_polls(statuses)
            refused = np.flatnonzero((statuses >= _GOOD_LIMIT) & ~polled)
            if len(refused):
                yield self._failed(refused, statuses[refused])
            pushed = self._pushed(subscription, publishing)
            rest = np.flatnonzero(polled)
            sources = [pushed, self._polled(rest)] if len(rest) else [pushed]
            async with aclosing(merged(sources)) as readings:
                async for columns in readings:
                    yield columns
        finally:
            await publishing.close()

    def _left_to_polls(self, statuses: NDArray[np.uint32]) -> NDArray[np.bool_]:
        if self.session.options.mode == "subscribe":
            return np.zeros(len(statuses), np.bool_)
        return np.isin(statuses, _NOT_PUSHED)

    def _failed(self, rows: NDArray[np.intp], statuses: NDArray[np.uint32]) -> Columns:
        values = failed(rows.astype(np.uint32), statuses)
        return to_columns(values, self.plan.is_text, self.clock.now_us())

    async def _pushed(
        self, subscription: Subscription, publishing: Publishing
    ) -> AsyncGenerator[Columns, None]:
        while True:
            publication = await publishing.next(self.session.options.timeout_s)
            if publication.subscription_id == subscription.id:
                for columns in await self._columns(publication):
                    yield columns

    async def _columns(self, publication: Publication) -> list[Columns]:
        if any(fell_behind(values) for values in publication.changes):
            msg = (
                f"{self.session.options.url}: fell behind, the server dropped values; "
                "raise queue_size or sample less often"
            )
            raise LinkLost(msg)
        now_us = self.clock.now_us()
        plan = self.plan
        known = [within(values, len(plan.addresses)) for values in publication.changes]
        columns = [to_columns(values, plan.is_text, now_us) for values in known if len(values)]
        for one in columns:
            if await self.reading.have_moved(plan, one):
                msg = f"{self.session.options.url}: points have other ids by now, found anew"
                raise LinkLost(msg)
        return [*columns, await self.reading.read(plan)] if publication.damaged else columns

    async def _polled(self, rows: NDArray[np.intp]) -> AsyncGenerator[Columns, None]:
        part = self.plan.part(rows)
        interval_s = self.session.options.poll_interval_s
        due_s = self.clock.monotonic_s()
        while True:
            columns = await self.reading.read(part)
            yield columns.with_series(rows[columns.series].astype(np.int32))
            due_s = max(due_s + interval_s, self.clock.monotonic_s())
            await asyncio.sleep(due_s - self.clock.monotonic_s())


async def merged(sources: Sequence[AsyncGenerator[Columns, None]]) -> AsyncGenerator[Columns, None]:
    """Yield what comes from any of the sources; an error of one ends all."""
    waiting = {asyncio.ensure_future(_following(source)): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                source = waiting.pop(one)
                yield one.result()
                waiting[asyncio.ensure_future(_following(source))] = source
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for source in sources:
            await source.aclose()


async def _following(source: AsyncGenerator[Columns, None]) -> Columns:
    return await anext(source)
