"""Reads points over one connection, and has them monitored; a point that fails fails alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from protocols.opcua.addresses import Address
from protocols.opcua.binary import Malformed
from protocols.opcua.codec import decode_read, failed, to_columns
from protocols.opcua.faults import TooMuchAtOnce
from protocols.opcua.resolving import Resolver
from protocols.opcua.session import Session, Subscription, Target
from shared.clock import Clock
from shared.columns import Columns, concatenate
from shared.quality import Reason, bad

LOOK_AGAIN_S: Final = 60.0
"""How often points that the server does not know are looked for by their paths."""
_BAD_DECODING: Final = 0x8007_0000
_UNKNOWN: Final = (0x8033_0000, 0x8034_0000)
"""BadNodeIdInvalid, BadNodeIdUnknown: the server has no such node, perhaps any more."""
_LOST: Final = bad(Reason.WRONG_ADDRESS)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Plan:
    """Where the points are, which of them are texts, and which can be looked for by a path."""

    addresses: tuple[Address, ...]
    is_text: NDArray[np.bool_]
    has_path: NDArray[np.bool_]

    def part(self, rows: NDArray[np.intp]) -> "Plan":
        """Take some of the points."""
        addresses = tuple(self.addresses[row] for row in rows.tolist())
        return Plan(addresses, self.is_text[rows], self.has_path[rows])


@dataclass(slots=True)
class Reading:
    """What is known of the points of plans over one connection: where they are today."""

    session: Session
    resolver: Resolver
    clock: Clock
    _targets: WeakKeyDictionary[Plan, list[Target]] = field(default_factory=WeakKeyDictionary)
    _looked_at_s: WeakKeyDictionary[Plan, float] = field(default_factory=WeakKeyDictionary)

    async def read(self, plan: Plan) -> Columns:
        """Read every point once; those that are not where they were are looked for, and read."""
        columns = await self._read(plan)
        is_lost = plan.has_path & _is_lost(columns)
        if is_lost.any() and await self._have_moved(plan, np.flatnonzero(is_lost)):
            return await self._read(plan)
        return columns

    async def monitor(self, subscription: Subscription, plan: Plan) -> NDArray[np.uint32]:
        """Have all points monitored under their numbers; gives a status for each."""
        rows = np.arange(len(plan.addresses))
        statuses = await self._monitor(subscription, plan, rows)
        lost = np.flatnonzero(np.isin(statuses, _UNKNOWN) & plan.has_path)
        if len(lost) and await self._have_moved(plan, lost):
            statuses[lost] = await self._monitor(subscription, plan, lost)
        return statuses

    async def have_moved(self, plan: Plan, columns: Columns) -> bool:
        """Tell whether readings say that points are unknown which the server has elsewhere now."""
        rows = columns.series[_is_lost(columns)].astype(np.intp)
        findable = rows[plan.has_path[rows]]
        return bool(len(findable)) and await self._have_moved(plan, findable)

    async def targets(self, plan: Plan) -> list[Target]:
        """Find where the points of a plan are; looked up once a connection."""
        found = self._targets.get(plan)
        if found is None:
            found = self._targets[plan] = await self.resolver.targets(plan.addresses)
        return found

    async def _have_moved(self, plan: Plan, rows: NDArray[np.intp]) -> bool:
        """Look for points by their paths, not too often; tells whether any is elsewhere now."""
        now_s = self.clock.monotonic_s()
        if now_s - self._looked_at_s.get(plan, -LOOK_AGAIN_S) < LOOK_AGAIN_S:
            return False
        self._looked_at_s[plan] = now_s
        targets = await self.targets(plan)
        places = rows.tolist()
        fresh = await self.resolver.by_path([plan.addresses[row] for row in places])
        has_moved = False
        for row, target in zip(places, fresh, strict=True):
            if target is not None and target != targets[row]:
                targets[row] = target
                has_moved = True
        return has_moved

    async def _read(self, plan: Plan) -> Columns:
        targets = await self.targets(plan)
        chunk = self.session.read_chunk
        parts = []
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            columns = await self._read_part(targets[part], plan.is_text[part])
            parts.append(columns.with_series(columns.series + np.int32(start)))
        return concatenate(parts)

    async def _read_part(self, targets: Sequence[Target], is_text: NDArray[np.bool_]) -> Columns:
        try:
            values = decode_read(await self.session.read(targets), len(targets))
        except (Malformed, TooMuchAtOnce) as error:
            if len(targets) > 1:
                return await self._read_halves(targets, is_text)
            status = error.status if isinstance(error, TooMuchAtOnce) else _BAD_DECODING
            values = failed(np.zeros(1, np.uint32), np.array([status], np.uint32))
        return to_columns(values, is_text, self.clock.now_us())

    async def _read_halves(self, targets: Sequence[Target], is_text: NDArray[np.bool_]) -> Columns:
        half = len(targets) // 2
        first = await self._read_part(targets[:half], is_text[:half])
        second = await self._read_part(targets[half:], is_text[half:])
        return concatenate([first, second.with_series(second.series + np.int32(half))])

    async def _monitor(
        self, subscription: Subscription, plan: Plan, rows: NDArray[np.intp]
    ) -> NDArray[np.uint32]:
        targets = await self.targets(plan)
        items = [(row, targets[row]) for row in rows.tolist()]
        chunk = self.session.monitor_chunk
        statuses: list[int] = []
        for start in range(0, len(items), chunk):
            statuses += await self._monitor_part(subscription, items[start : start + chunk])
        return np.array(statuses, np.uint32)

    async def _monitor_part(
        self, subscription: Subscription, items: Sequence[tuple[int, Target]]
    ) -> list[int]:
        try:
            return await self.session.monitor(subscription.id, items)
        except TooMuchAtOnce as error:
            if len(items) == 1:
                return [error.status]
        half = len(items) // 2
        return [
            *await self._monitor_part(subscription, items[:half]),
            *await self._monitor_part(subscription, items[half:]),
        ]


def _is_lost(columns: Columns) -> NDArray[np.bool_]:
    return np.equal(columns.quality, _LOST)
