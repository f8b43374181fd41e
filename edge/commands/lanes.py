"""The lanes: one a device, in which its writes go one after the other; no device waits for another.

A lane is a task that lives while there is something due that can be written.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from edge.commands.carrier import OVER, Carrier
from edge.commands.command import State
from edge.commands.desk import Desk
from edge.commands.store import CommandsUnwritable, Ending
from edge.commands.way import Target, Way
from shared.logs import get

NOT_WRITABLE: Final = "it is not writable any more"

_log = get("commands")


@dataclass(slots=True)
class Lanes:
    """What time, devices and configuration make due."""

    desk: Desk
    way: Way
    carrier: Carrier
    _lanes: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether time alone can make something due."""
        book = self.desk.book
        has_leases = any(slot.lease is not None for slot in book.slots.values())
        return bool(has_leases or book.waiting or book.owed)

    async def turn(self) -> None:
        """Look once at everything; begins lanes and does not wait for them."""
        await self._end_leases()
        await self._end_hopeless()
        for point in self._points_due():
            target = self.way.target(point)
            if target is not None and target.writing is not None:
                self._begin(target.device)

    async def settled(self) -> None:
        """Wait until no device is being written to."""
        while self._lanes:
            await asyncio.wait(list(self._lanes.values()))

    async def close(self) -> None:
        """Leave what is under way: where it was being sent, nobody knows then."""
        for lane in self._lanes.values():
            lane.cancel()
        await self.settled()

    async def _end_leases(self) -> None:
        now, is_synchronised = self.desk.times.now(), self.desk.times.is_synchronised()
        for place, slot in list(self.desk.book.slots.items()):
            if slot.lease is None or slot.lease.left_s(now, is_synchronised=is_synchronised) > 0:
                continue
            # Where it is being written to, what becomes of that is decided first.
            if slot.point not in self.desk.in_hand.values():
                await self.desk.free(place, slot, "its lease ended")

    async def _end_hopeless(self) -> None:
        """End what can never be written any more, also while its device is away."""
        for command in list(self.desk.book.waiting.values()):
            if command.id in self.desk.in_hand:
                continue
            target = self.way.target(command.point)
            if target is None:
                await self.desk.finish(command, Ending(State.REFUSED, NOT_WRITABLE))
            elif command.left_s(self.desk.times.now()) <= 0:
                detail = OVER if target.writing else f"{OVER}: its device did not answer"
                await self.desk.finish(command, Ending(State.EXPIRED, detail))
        for place in list(self.desk.book.owed):
            is_idle = place[0] not in self.desk.in_hand.values()
            if is_idle and self.way.target(place[0]) is None:
                await self.desk.forgive(place, NOT_WRITABLE)

    def _points_due(self) -> set[str]:
        now = self.desk.times.now()
        due = {one.point for one in self.desk.book.waiting.values() if one.is_due(now)}
        return due | {place[0] for place in self.carrier.mendable()}

    def _begin(self, device: str) -> None:
        if device not in self._lanes:
            lane = asyncio.create_task(self._serve(device), name=f"commands of {device}")
            self._lanes[device] = lane
            lane.add_done_callback(lambda _: self._lanes.pop(device, None))

    async def _serve(self, device: str) -> None:
        try:
            while await self._serve_one(device):
                pass
        except CommandsUnwritable as error:
            _log.error("commands wait: they cannot be stored", problem=str(error))
        except Exception:  # noqa: BLE001 - a lane's root: the others go on
            _log.exception("a command failed", device=device)

    async def _serve_one(self, device: str) -> bool:
        """Do the first thing that is due on a device; tell whether there was one."""
        now = self.desk.times.now()
        for command in self.desk.book.waiting.values():
            target = self._reachable(command.point, device)
            if target is not None and command.is_due(now):
                await self.carrier.decide(command, target)
                return True
        for place in self.carrier.mendable():
            target = self._reachable(place[0], device)
            if target is not None:
                await self.carrier.give_back(place, target)
                return True
        return False

    def _reachable(self, point: str, device: str) -> Target | None:
        target = self.way.target(point)
        is_there = target is not None and target.device == device and target.writing is not None
        return target if is_there else None
