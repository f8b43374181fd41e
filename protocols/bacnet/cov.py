"""Points whose changes the device tells (COV), renewed, watched, and read where it does not.

A subscription lives for its lifetime and is renewed at half of it, so that one that a reboot of the
device swept away is back by then. Beside that everything is read now and then: a device that is
silent is found so, and a notice that was lost is made up for.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from protocols.bacnet.client import Client, Rejection
from protocols.bacnet.notices import Notice
from protocols.bacnet.options import BacnetDevice
from shared.errors import DriverError, LinkLost

MOST_NOTICES: Final = 1_000
UNSUBSCRIBE_S: Final = 2.0
"""How long the device is asked to stop; it forgets by itself when the lifetime ends."""

_HIGHEST_PROCESS: Final = 4_194_303
_NOT_KNOWN: Final = frozenset(
    {"unrecognized-service", "reject-unrecognized-service", "service-request-denied"}
)
"""Words of a device that subscribes to nothing."""

Place = tuple[str, int]
"""Type and instance of an object."""


@dataclass(slots=True)
class Watch:
    """What is watched: the rows of each object, and which of them are read instead.

    `refused` says why an object is not subscribed to.
    """

    rows: Mapping[Place, Sequence[int]]
    polled: set[int] = field(default_factory=set)
    refused: dict[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A notice, with the rows it tells of."""

    rows: Sequence[int]
    notice: Notice


@dataclass(frozen=True, slots=True)
class Due:
    """Rows that are to be read now; `is_check` if the device should have told of changes."""

    rows: Sequence[int]
    is_check: bool


class Subscriptions:
    """Subscribes to the objects of a watch for as long as `events` is followed."""

    def __init__(self, client: Client, options: BacnetDevice, watch: Watch) -> None:
        """Nothing is sent before `events`."""
        self._client = client
        self._options = options
        self._watch = watch
        self._process = random.randint(1, _HIGHEST_PROCESS)  # noqa: S311 - tells ours from others'
        self._notices = client.listen(self._process, MOST_NOTICES)
        self._loop = asyncio.get_running_loop()

    async def events(self) -> AsyncGenerator[Told | Due]:
        """Yield what the device tells and what is to be read, until the link is lost."""
        is_linked = True
        try:
            async with aclosing(self._followed()) as followed:
                async for event in followed:
                    yield event
        except LinkLost:
            is_linked = False
            raise
        finally:
            if is_linked:
                await self._leave()

    async def _followed(self) -> AsyncGenerator[Told | Due]:
        await self.renew()
        yield Due(sorted(self._watch.polled), is_check=False)
        options = self._options
        renewal = _Every(options.cov_lifetime_s / 2, self._loop.time())
        check = _Every(options.check_s, self._loop.time())
        poll = _Every(options.poll_s, self._loop.time())
        while True:
            wait_s = min(one.due_s for one in (renewal, check, poll)) - self._loop.time()
            notice = await self._notices.next(wait_s)
            if notice is not None:
                yield Told(self._watch.rows.get((notice.object, notice.instance), ()), notice)
            now_s = self._loop.time()
            if renewal.is_due(now_s):
                await self.renew()
            if poll.is_due(now_s) and self._watch.polled:
                yield Due(sorted(self._watch.polled), is_check=False)
            # What was told before is told on first: it is older than what a read finds.
            if self._notices.is_empty and (check.is_due(now_s) or self._notices.has_lost):
                self._notices.has_lost = False
                yield Due(self._told_rows(), is_check=True)

    async def renew(self, places: Sequence[Place] | None = None) -> None:
        """Subscribe to every object that did not refuse it, or to those given; or `LinkLost`."""
        for place in self._watch.rows if places is None else places:
            if place not in self._watch.refused:
                await self._subscribe(place)

    async def _subscribe(self, place: Place) -> None:
        options = self._options
        try:
            await self._client.subscribe(
                *place, self._process, options.cov_lifetime_s, is_confirmed=options.cov_confirmed
            )
        except Rejection as error:
            self._refuse(place, error.word)
            if error.word in _NOT_KNOWN:
                for other in self._watch.rows:
                    self._refuse(other, error.word)

    def _refuse(self, place: Place, word: str) -> None:
        self._watch.refused[place] = word
        self._watch.polled.update(self._watch.rows[place])

    def _told_rows(self) -> list[int]:
        rows = {row for several in self._watch.rows.values() for row in several}
        return sorted(rows - self._watch.polled)

    async def _leave(self) -> None:
        with suppress(TimeoutError, DriverError):
            async with asyncio.timeout(UNSUBSCRIBE_S):
                for place in self._watch.rows:
                    if place not in self._watch.refused:
                        with suppress(Rejection):
                            await self._client.unsubscribe(*place, self._process)


class _Every:
    """Something that is due again and again."""

    def __init__(self, every_s: float, now_s: float) -> None:
        self._every_s = every_s
        self.due_s = now_s + every_s

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is due; if so, it is due again later."""
        if now_s < self.due_s:
            return False
        self.due_s = now_s + self._every_s
        return True
