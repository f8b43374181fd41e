"""The carrier: carries one command out, or writes what a point should have when nobody holds it."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from edge.commands.book import Place
from edge.commands.command import ID_BYTES, Asked, Command, Lease, Slot, Source, State
from edge.commands.desk import Desk
from edge.commands.rules import Judge
from edge.commands.store import Ending
from edge.commands.way import Target
from edge.commands.writing import WRITE_S, Result, Writer
from edge.writable import Value

MEND_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3_600.0)
"""After how long it is tried again to give a point back that could not be."""

OVER: Final = "its time was over before it was written"


@dataclass(slots=True)
class Carrier:
    """Writes for the desk."""

    desk: Desk
    judge: Judge
    writer: Writer
    _mend_at_s: dict[Place, float] = field(default_factory=dict)

    async def decide(self, command: Command, target: Target) -> None:
        """Carry a command out, or say why not."""
        desk, times = self.desk, self.desk.times
        desk.in_hand[command.id] = command.point
        try:
            is_synchronised = times.is_synchronised()
            found = self.judge.at_last(command, times.now(), is_synchronised=is_synchronised)
            if found is not None:
                await desk.finish(command, Ending(found.state, found.detail))
            else:
                await self._carry_out(command, target)
        finally:
            desk.in_hand.pop(command.id, None)

    async def _carry_out(self, command: Command, target: Target) -> None:
        value, is_needed = self._wanted(command, target)
        if not is_needed:
            freed = ((command.point, command.priority),)
            ending = Ending(State.DONE, "nothing had to be written", freed=freed)
            await self.desk.finish(command, ending)
            return
        await self.desk.sending(command)
        # The commit took its time: once more, for nothing stands between this and the write.
        left_s = command.left_s(self.desk.times.now())
        if left_s <= 0:
            await self.desk.finish(command, Ending(State.EXPIRED, OVER))
            return
        result = await self.writer.carry_out(target, value, command.priority, left_s)
        await self.desk.finish(command, self._ending(command, target, result))

    def _wanted(self, command: Command, target: Target) -> tuple[Value | None, bool]:
        """Tell what is to be written for a command, and whether anything is."""
        if command.asked.value is not None:
            return command.asked.value, True
        if target.releases:
            return None, True
        top = self.desk.book.top(command.point)
        if top is None or top.priority != command.priority:
            return None, False
        value = self._due(target, without=command.priority)
        return value, value is not None

    def _due(self, target: Target, without: int = 0) -> Value | None:
        """Tell what a point should have whose device keeps no priorities."""
        following = self.desk.book.top(target.source.point.key, without)
        return target.limits.release_value if following is None else following.value

    def _ending(self, command: Command, target: Target, result: Result) -> Ending:
        place = (command.point, command.priority)
        is_back = command.asked.value is None
        freed = (place,) if is_back and result.is_touched else ()
        if result.state is not State.DONE:
            owes = (place,) if result.is_touched else ()
            return Ending(result.state, result.detail, None, freed, owes)
        held = self._slot(command, target)
        return Ending(result.state, result.detail, held, freed, paid=self._debts(target, place))

    def _debts(self, target: Target, place: Place) -> tuple[Place, ...]:
        """List what is settled by a write: where the device keeps priorities, of that one."""
        if target.releases:
            return (place,)
        return tuple(one for one in self.desk.book.owed if one[0] == place[0])

    def _slot(self, command: Command, target: Target) -> Slot | None:
        asked, now = command.asked, self.desk.times.now()
        if asked.value is None:
            return None
        length_s = asked.lease_s or target.limits.max_lease_s
        return Slot(
            command.point,
            command.priority,
            asked.value,
            command.id,
            command.source,
            asked.actor,
            now.utc_us,
            Lease.of(length_s, now) if length_s else None,
        )

    async def give_back(self, place: Place, target: Target) -> None:
        """Write what a point should have, as a command of the gateway itself."""
        if target.releases:
            slot = self.desk.book.slots.get(place)
            value = None if slot is None else slot.value
        else:
            value = self._due(target)
        if value is None and not target.releases:
            await self.desk.forgive(place, "it has no release_value: it keeps what it has")
            return
        id_ = secrets.token_bytes(ID_BYTES)
        self.desk.in_hand[id_] = place[0]
        try:
            await self._written_back(id_, place, target, value)
        finally:
            self.desk.in_hand.pop(id_, None)

    async def _written_back(
        self, id_: bytes, place: Place, target: Target, value: Value | None
    ) -> None:
        asked = Asked(
            point=place[0], value=value, priority=place[1], actor="gateway", reason="given back"
        )
        command = Command(id_, asked, Source.GATEWAY, self.desk.times.now())
        record = await self.desk.accept(command, State.SENDING)
        result = await self.writer.carry_out(target, value, place[1], WRITE_S)
        paid = self._debts(target, place) if result.state is State.DONE else ()
        if not paid:
            self._mend_later(place)
        await self.desk.finish(record.command, Ending(result.state, result.detail, paid=paid))

    def mendable(self) -> list[Place]:
        """List where it is time to write what a point should have."""
        now_s, owed = self.desk.times.clock.monotonic_s(), self.desk.book.owed
        for place in self._mend_at_s.keys() - owed.keys():
            del self._mend_at_s[place]
        return [place for place in owed if now_s >= self._mend_at_s.get(place, now_s)]

    def _mend_later(self, place: Place) -> None:
        tries = self.desk.book.owed.get(place, 0)
        self.desk.book.owed[place] = tries + 1
        wait_s = MEND_S[min(tries, len(MEND_S) - 1)]
        self._mend_at_s[place] = self.desk.times.clock.monotonic_s() + wait_s
