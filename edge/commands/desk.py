"""The desk: keeps store and book the same, and tells of every command that came to its end.

What the book says was committed before; what is told of a command is on disk before it is told.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge.commands.book import Book, Place
from edge.commands.command import Command, Record, Slot, State
from edge.commands.moments import Times
from edge.commands.store import CommandStore, CommandsUnwritable, Ending
from shared.logs import get

AGAIN_S: Final = 1.0
"""The end of a command that the disk refuses is stored again after this time."""

DETAIL: Final = 500
"""So long is what is said of an end, at most."""

_log = get("commands")


@dataclass(slots=True)
class Desk:
    """Store and book of one gateway."""

    store: CommandStore
    times: Times
    book: Book
    listeners: list[Callable[[Record], None]] = field(default_factory=list)
    """Called when a command has come to its end."""
    counts: Counter[State] = field(default_factory=Counter)
    """How many came to which end since the start."""
    in_hand: dict[bytes, str] = field(default_factory=dict)
    """The points that are being written to, by the id of the command."""
    _ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def accept(self, command: Command, state: State, detail: str = "") -> Record:
        """Take a command in; it waits, is being sent, or is at its end already."""
        kept = await asyncio.to_thread(self.store.accept, command, state, detail)
        record = Record(kept, state, detail, command.accepted.utc_us if state.is_final else 0)
        if state is State.WAITING:
            self.book.waiting[kept.id] = kept
        elif state.is_final:
            await self._tell(record)
        return record

    async def sending(self, command: Command) -> None:
        """Note that a device is about to be written to; nothing takes the command up again."""
        now = self.times.now()
        await asyncio.to_thread(self.store.sending, command, now)
        self.book.waiting.pop(command.id, None)
        self.book.written[command.point] = now

    async def finish(self, command: Command, ending: Ending) -> None:
        """Note the end of a command, however long the disk refuses it, and tell of it."""
        now, is_told = self.times.now(), False
        ending = replace(ending, detail=ending.detail[:DETAIL])
        while True:
            try:
                await asyncio.to_thread(self.store.finish, command, ending, now)
                break
            except CommandsUnwritable as error:
                if not is_told:
                    _log.error("the end of a command cannot be stored yet", problem=str(error))
                is_told = True
                await asyncio.sleep(AGAIN_S)
        self._rearrange(command, ending)
        await self._tell(Record(command, ending.state, ending.detail, now.utc_us))

    def _rearrange(self, command: Command, ending: Ending) -> None:
        book = self.book
        book.waiting.pop(command.id, None)
        for place in ending.freed:
            book.slots.pop(place, None)
        for place in ending.paid:
            book.owed.pop(place, None)
        for place in ending.owes:
            book.owed.setdefault(place, 0)
        if ending.held is not None:
            book.slots[command.point, command.priority] = ending.held
        self.in_hand.pop(command.id, None)

    async def free(self, place: Place, slot: Slot, why: str) -> None:
        """Note that a hold is over, which is then to be written."""
        await asyncio.to_thread(self.store.free, slot, self.times.now(), why)
        self.book.slots.pop(place, None)
        self.book.owed.setdefault(place, 0)

    async def forgive(self, place: Place, why: str) -> None:
        """Note that there is nothing to write where something was owed."""
        await asyncio.to_thread(self.store.forgive, place, self.times.now(), why)
        self.book.owed.pop(place, None)

    async def wait_for(self, id_: bytes, timeout_s: float) -> None:
        """Wait until a command is at its end, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._ended:
                await self._ended.wait_for(lambda: not self._is_open(id_))

    def _is_open(self, id_: bytes) -> bool:
        return id_ in self.book.waiting or id_ in self.in_hand

    async def _tell(self, record: Record) -> None:
        self.counts[record.state] += 1
        command = record.command
        log: dict[str, Any] = {"point": command.point, "source": command.source.value}
        _log.info("command", **log, state=record.state.value, detail=record.detail)
        async with self._ended:
            self._ended.notify_all()
        for listener in self.listeners:
            listener(record)
