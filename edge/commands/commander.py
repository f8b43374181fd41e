"""The commander: what others ask of commands: to take one, to give a point back, to tell.

Whatever is decided when a command comes is decided again at the last moment before its write.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from edge.commands.audit import Entry, newest
from edge.commands.carrier import Carrier
from edge.commands.command import (
    ID_BYTES,
    Asked,
    Command,
    CommandWrong,
    Record,
    Slot,
    Source,
    State,
)
from edge.commands.desk import Desk
from edge.commands.lanes import Lanes
from edge.commands.moments import Times
from edge.commands.rules import Judge
from edge.commands.store import CommandStore, CommandsUnwritable
from edge.commands.way import Way
from edge.commands.writing import Writer
from edge.writable import HAND
from shared.errors import SpineError

MAX_OPEN: Final = 1_000
"""Commands that wait at the same time."""

TICK_S: Final = 0.2
IDLE_S: Final = 5.0
CLOSE_S: Final = 5.0
"""How long a stop waits for commands that are being taken."""

NEWEST: Final = 2**62
MOST: Final = 1_000


class TooMany(SpineError):
    """More commands wait than the gateway keeps; nothing was kept of this one."""


class IdTaken(SpineError):
    """Another command had this id; the new one was not kept."""


@dataclass(slots=True)
class Commander:
    """The commands of this gateway; made by `opened`."""

    desk: Desk
    judge: Judge
    lanes: Lanes
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    _works: set[asyncio.Future[Record]] = field(default_factory=set)

    @classmethod
    async def opened(
        cls, store: CommandStore, way: Way, times: Times, writer: Writer | None = None
    ) -> "Commander":
        """Go on where the last process ended: what it was sending becomes `unknown`."""
        now, is_synchronised = times.now(), times.is_synchronised()
        book = await asyncio.to_thread(store.recovered, now, is_synchronised=is_synchronised)
        desk, judge = Desk(store, times, book), Judge(way, book)
        carrier = Carrier(desk, judge, writer or Writer(way, times.clock))
        return cls(desk, judge, Lanes(desk, way, carrier))

    @property
    def listeners(self) -> list[Callable[[Record], None]]:
        """Called, each, when a command has come to its end."""
        return self.desk.listeners

    async def submit(self, asked: Asked, source: Source, id_: bytes | None = None) -> Record:
        """Take a command, and tell what is the case with it: it waits, or is at its end already.

        The same command under the same id is one command, however often it comes. Raises
        `CommandWrong`, `IdTaken`, `TooMany` or `CommandsUnwritable`; then nothing was kept.
        """
        if source is Source.GATEWAY:
            raise CommandWrong("nobody speaks for the gateway itself")
        if id_ is not None and len(id_) != ID_BYTES:
            raise CommandWrong(f"an id has {ID_BYTES} bytes")
        # Who asks may go away: what is kept of the command is taken up all the same.
        work = asyncio.ensure_future(self._taken(asked, source, id_))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        return await asyncio.shield(work)

    async def release(
        self, point: str, *, actor: str = "", reason: str = "", priority: int | None = None
    ) -> Record:
        """Give a point back for somebody on site: its highest hold, or that of a priority.

        Raises like `submit`.
        """
        top = self.desk.book.top(point)
        given = priority or (top.priority if top is not None else HAND)
        asked = {"point": point, "value": None, "priority": given}
        return await self.submit(
            Asked.of({**asked, "actor": actor, "reason": reason}), Source.LOCAL
        )

    async def outcome(self, id_: bytes, timeout_s: float) -> Record:
        """Wait for the end of a command; after `timeout_s` tell what is the case.

        Raises `CommandWrong` for an id that nobody knows.
        """
        await self.desk.wait_for(id_, timeout_s)
        known = await asyncio.to_thread(self.desk.store.known, id_)
        if known is None:
            raise CommandWrong("no command has this id")
        return known[0]

    def active(self) -> list[Slot]:
        """List who holds which points, the highest priority of a point first."""
        return sorted(self.desk.book.slots.values(), key=lambda slot: (slot.point, slot.priority))

    def waiting(self) -> list[Command]:
        """List the commands that wait for their time or their device."""
        return list(self.desk.book.waiting.values())

    async def history(
        self, limit: int = 100, before: int = NEWEST, point: str | None = None
    ) -> list[Record]:
        """List the newest commands and what became of them; `before` a number, for paging."""
        return await asyncio.to_thread(self.desk.store.history, min(limit, MOST), before, point)

    async def audit(self, limit: int = 100, before: int = NEWEST) -> list[Entry]:
        """List the newest entries of the audit, those before a number."""
        return await asyncio.to_thread(newest, self.desk.store, min(limit, MOST), before)

    async def run(self) -> None:
        """Carry out what is due, for ever; what is under way at the end is not begun again."""
        try:
            while True:
                with suppress(CommandsUnwritable):
                    await self.lanes.turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S if self.lanes.is_busy else IDLE_S):
                        await self._stirred.wait()
                self._stirred.clear()
        finally:
            await self.lanes.close()
            if self._works:
                await asyncio.wait(self._works, timeout=CLOSE_S)

    async def _taken(self, asked: Asked, source: Source, id_: bytes | None) -> Record:
        async with self._taking:
            given = id_ or secrets.token_bytes(ID_BYTES)
            command = Command(given, asked, source, self.desk.times.now())
            known = await self._known(command) if id_ else None
            return known or await self._accepted(command)

    async def _known(self, command: Command) -> Record | None:
        known = await asyncio.to_thread(self.desk.store.known, command.id)
        if known is None:
            return None
        record, digest = known
        if digest != command.digest():
            raise IdTaken("another command had this id: give each command an id of its own")
        return record

    async def _accepted(self, command: Command) -> Record:
        if len(self.desk.book.waiting) >= MAX_OPEN:
            raise TooMany(f"{MAX_OPEN} commands wait already")
        times = self.desk.times
        objection = self.judge.at_first(
            command,
            times.now(),
            is_synchronised=times.is_synchronised(),
            floor_us=await asyncio.to_thread(self.desk.store.floor_us),
        )
        if objection is not None:
            return await self.desk.accept(command, objection.state, objection.detail)
        record = await self.desk.accept(command, State.WAITING)
        self._stirred.set()
        return record
