"""What a full outbox loses, in which order, and what it never loses."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from edge.holes import GapReason
from edge.index import Index, is_undelivered
from edge.sealed import Sealed
from edge.segment_reads import Sort
from edge.settings import OutboxSection
from edge.sqlite import OutboxFull
from shared.clock import MICROSECONDS, Clock
from shared.model import Kind, PointClass

DROPPED_AT_ONCE: Final = 64
"""Segments that leave in one commit when the outbox is over its cap."""

LOST_FIRST: Final[tuple[Sort, ...]] = tuple(
    (kind, klass)
    for kind in (Kind.READINGS, Kind.ROLLUPS)
    for klass in (PointClass.LOW, PointClass.NORMAL, PointClass.HIGH)
)
"""The order in which a full outbox loses, the oldest of each first; alerts are never lost."""

AllHere = Callable[[int, int, int], bool]
"""Of an epoch, a seq and a later one: whether nothing between them may have been delivered."""


def is_nothing_between(_: int, after: int, below: int) -> bool:
    """Tell whether two seqs are neighbours."""
    return below == after + 1


class Losing(Protocol):
    """What the caps ask of the outbox."""

    index: Index

    async def used_bytes(self) -> int:
        """Tell how much room the outbox takes."""
        ...

    async def fetch(
        self, after: int, below: int, limit: int, *, sort: Sort | None = None
    ) -> list[Sealed]:
        """Read sealed segments of a sort."""
        ...

    async def drop(
        self, segments: Sequence[Sealed], reason: GapReason, all_here: AllHere = is_nothing_between
    ) -> None:
        """Delete batches and declare them."""
        ...


class Caps:
    """The caps of one outbox, in bytes and in age."""

    def __init__(self, clock: Clock, settings: OutboxSection) -> None:
        """Hold an outbox against the caps in `settings`."""
        self.is_exhausted = False
        self._clock = clock
        self._settings = settings
        self._none_upto: dict[Sort, int] = {}

    def check(self, used_bytes: int) -> None:
        """Raise `OutboxFull` while the outbox is full of what is never dropped."""
        if used_bytes > self._settings.max_bytes:
            raise OutboxFull(
                "the outbox is full of what is never dropped (alerts, events): connect the gateway"
                " to central, or raise outbox.max_bytes"
            )
        self.is_exhausted = False

    async def dropped_some(self, outbox: Losing) -> bool:
        """Drop some of what is too much or too old; tell whether anything was."""
        before = outbox.index.next_id
        over = await outbox.used_bytes() - self._settings.max_bytes
        await (self._drop_the_next(outbox) if over > 0 else self._drop_too_old(outbox))
        is_done = outbox.index.next_id == before
        self.is_exhausted = over > 0 and is_done
        return not is_done

    async def _drop_the_next(self, outbox: Losing) -> None:
        for sort in LOST_FIRST:
            found = await self._oldest(outbox, sort)
            if found:
                all_here = partial(is_undelivered, outbox.index)
                await outbox.drop(found, GapReason.OUTBOX_FULL, all_here)
                return

    async def _drop_too_old(self, outbox: Losing) -> None:
        limit_us = self._clock.now_us() - int(self._settings.max_age_s * MICROSECONDS)
        for sort in LOST_FIRST:
            too_old = [one for one in await self._oldest(outbox, sort) if one.t1 < limit_us]
            await outbox.drop(too_old, GapReason.TOO_OLD)

    async def _oldest(self, outbox: Losing, sort: Sort) -> list[Sealed]:
        after, top = self._none_upto.get(sort, 0), outbox.index.next_id
        found = await outbox.fetch(after, top, DROPPED_AT_ONCE, sort=sort)
        self._none_upto[sort] = (found[0].id if found else top) - 1
        return found
