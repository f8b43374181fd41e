"""Check-outs as a technician works with them: begin, record, look, close."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.field.checkout import (
    CheckOut,
    CheckOutRefused,
    Finding,
    Head,
    Item,
    Progress,
    Record,
    judged,
)
from edge.field.checkout_store import CheckOutStore
from edge.field.shown import Shown, shown_live
from edge.live import LiveValues
from edge.settings import Device
from shared.clock import Clock

MOST_ITEMS: Final = 20_000


@dataclass(slots=True)
class CheckOuts:
    """The check-outs of this gateway; they survive restarts, and changes of the configuration."""

    store: CheckOutStore
    live: LiveValues
    devices: Callable[[], Sequence[Device]]
    clock: Clock
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(
        self, title: str, by: str, devices: Sequence[str] = (), keys: Sequence[str] = ()
    ) -> CheckOut:
        """Begin a check-out of some points, of those of some devices, or of all.

        The points are fixed then. Raises `CheckOutRefused` where one is not known.
        """
        items = self._chosen(frozenset(devices), frozenset(keys))
        if not 0 < len(items) <= MOST_ITEMS:
            text = f"{len(items)} points are chosen; a check-out has 1 to {MOST_ITEMS}"
            raise CheckOutRefused("points_wrong", text)
        now_us = self.clock.now_us()
        async with self._turn:
            number = await asyncio.to_thread(self.store.begin, title, by, now_us, items)
        return CheckOut(Head(number, title, by, now_us, None, Progress(len(items))), tuple(items))

    async def heads(self) -> list[Head]:
        """List the check-outs, newest first."""
        return await asyncio.to_thread(self.store.heads)

    async def find(self, number: int) -> CheckOut:
        """Give a check-out. Raises `CheckOutRefused` where there is none."""
        head = await self._head(number)
        return CheckOut(head, tuple(await asyncio.to_thread(self.store.items, number)))

    async def record(self, number: int, key: str, finding: Finding) -> Record:
        """Record what was found of a point, with what the gateway shows of it at this moment."""
        async with self._turn:
            await self._head(number, is_open=True)
            item = await self._item(number, key)
            record = judged(item, finding, self.shown(item), self.clock.now_us())
            await asyncio.to_thread(self.store.add, number, record)
        return record

    async def history(self, number: int, key: str) -> list[Record]:
        """List all that was recorded of a point, oldest first."""
        await self._item(number, key)
        return await asyncio.to_thread(self.store.history, number, key)

    async def close(self, number: int) -> Head:
        """End a check-out: nothing is recorded in it any more, until it is opened again."""
        async with self._turn:
            await self._head(number, is_open=True)
            await asyncio.to_thread(self.store.close, number, self.clock.now_us())
        return await self._head(number)

    async def reopen(self, number: int) -> Head:
        """Go on with a check-out that was closed."""
        async with self._turn:
            await self._head(number)
            await asyncio.to_thread(self.store.close, number, None)
        return await self._head(number)

    async def delete(self, number: int) -> None:
        """Forget a check-out for good."""
        async with self._turn:
            await self._head(number)
            await asyncio.to_thread(self.store.delete, number)

    def shown(self, item: Item) -> Shown | None:
        """Give what the gateway shows of a point now; None where it was never read."""
        live = self.live.value(item.device, item.key)
        return None if live is None else shown_live(live)

    async def _head(self, number: int, *, is_open: bool = False) -> Head:
        found = await asyncio.to_thread(self.store.head, number)
        if found is None:
            raise CheckOutRefused("checkout_unknown", f"there is no check-out {number}")
        if is_open and found.closed_us is not None:
            text = f"check-out {number} is closed: open it again to go on with it"
            raise CheckOutRefused("checkout_closed", text)
        return found

    async def _item(self, number: int, key: str) -> Item:
        found = await asyncio.to_thread(self.store.item, number, key)
        if found is None:
            raise CheckOutRefused("point_unknown", f"{key!r} is no point of check-out {number}")
        return found

    def _chosen(self, devices: frozenset[str], keys: frozenset[str]) -> list[Item]:
        every = list(self._items())
        unknown = [
            *(devices - {one.device for one in every}),
            *(keys - {one.key for one in every}),
        ]
        if unknown:
            text = f"not configured: {', '.join(sorted(unknown)[:10])}"
            raise CheckOutRefused("points_wrong", text)
        is_all = not devices and not keys
        return [one for one in every if is_all or one.device in devices or one.key in keys]

    def _items(self) -> Iterator[Item]:
        for device in self.devices():
            for source in device.points:
                point = source.point
                yield Item(point.key, device.name, point.unit, point.type)
