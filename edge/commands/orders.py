"""The commands' end of the link: takes what central orders, and tells how each command ended.

An end is told until central confirms it by sending the same `outcome` back; so neither a cut nor a
restart loses one. What cannot be kept just now is not answered: central repeats it.
"""

import asyncio
from collections import deque
from typing import Final

from edge.commands.command import Asked, CommandWrong, Record, Source, State
from edge.commands.commander import Commander, IdTaken
from edge.commands.store import CommandsUnwritable
from shared import link
from shared.errors import SpineError
from shared.logs import get

MAX_ORDERS: Final = 256
"""Orders that are looked at one after the other; of more, central repeats those without an end."""

MAX_TOLD: Final = 1_000
"""Ends that are told after a welcome."""

_log = get("commands")


class Orders:
    """Speaks for a commander; it implements `edge.uplink.Commands`."""

    def __init__(self, commander: Commander) -> None:
        """Take orders for `commander`."""
        self._commander = commander
        self._orders: deque[link.Command | link.Outcome] = deque()
        self._is_ordered = asyncio.Event()
        self._ends: dict[bytes, link.Outcome] = {}
        self._is_due = asyncio.Event()
        self._is_anew = False
        self._is_muted = False
        commander.listeners.append(self._ended)

    def connected(self) -> None:
        """Tell anew what central has not confirmed: a session began."""
        self._is_anew, self._is_muted = True, False
        self._is_due.set()

    def order(self, frame: link.Command | link.Outcome) -> None:
        """Take an order, or the confirmation of an end; returns at once."""
        if len(self._orders) < MAX_ORDERS:
            self._orders.append(frame)
            self._is_ordered.set()

    def unsupported(self) -> None:
        """Tell no more ends in this session: central does not serve them."""
        self._is_muted = True

    async def outcome(self) -> link.Outcome:
        """Wait until there is an end to tell, and tell it."""
        while True:
            await self._is_due.wait()
            if self._is_anew:
                self._is_anew = False
                await self._remember()
            if self._ends and not self._is_muted:
                return self._ends.pop(next(iter(self._ends)))
            self._is_due.clear()

    async def _remember(self) -> None:
        store = self._commander.desk.store
        try:
            for record in await asyncio.to_thread(store.untold, MAX_TOLD):
                self._end(record)
        except CommandsUnwritable as error:
            _log.error("how commands ended cannot be read", problem=str(error))

    async def run(self) -> None:
        """Do what central orders, for ever, in its order."""
        while True:
            await self._is_ordered.wait()
            self._is_ordered.clear()
            while self._orders:
                try:
                    await self._take(self._orders.popleft())
                except SpineError as error:
                    _log.error("an order of central is not taken", problem=str(error))

    async def _take(self, frame: link.Command | link.Outcome) -> None:
        if isinstance(frame, link.Outcome):
            await asyncio.to_thread(self._commander.desk.store.told, frame.id)
            return
        try:
            asked = Asked.of(frame.document)
            record = await self._commander.submit(asked, Source.CENTRAL, frame.id)
        except CommandWrong as error:
            # Nothing is kept of it: it can never be written, so it may be told again and again.
            self._offer(link.Outcome(id=frame.id, state=State.REFUSED.value, detail=str(error)))
        except IdTaken as error:
            _log.error("central gives another command a known id", problem=str(error))
            self._end(await self._commander.outcome(frame.id, 0.0))
        else:
            self._end(record)

    def _ended(self, record: Record) -> None:
        if record.command.source is Source.CENTRAL:
            self._end(record)

    def _end(self, record: Record) -> None:
        if record.state.is_final and record.command.source is Source.CENTRAL:
            id_, state = record.command.id, record.state.value
            self._offer(link.Outcome(id=id_, state=state, detail=record.detail))

    def _offer(self, outcome: link.Outcome) -> None:
        if len(self._ends) < MAX_TOLD:
            self._ends[outcome.id] = outcome
        self._is_due.set()
