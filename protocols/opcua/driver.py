"""The OPC UA driver: points read in batches, or pushed by a subscription that is watched."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocols.driver import Delivery, DriverType, PointSource
from protocols.opcua.binary import Malformed
from protocols.opcua.codec import (
    NOTHING,
    Publication,
    Values,
    decode_read,
    fell_behind,
    to_columns,
)
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.opcua.publishing import Publishing
from protocols.opcua.session import NodeId, Session, Subscription, TooMuchAtOnce, parse_node
from shared.clock import Clock, SystemClock
from shared.columns import Columns, concatenate
from shared.errors import LinkLost, OptionsWrong
from shared.model import PointType

_BAD_DECODING: Final = 0x8007_0000
_GOOD_LIMIT: Final = 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The nodes of the points, and which of them are texts."""

    nodes: tuple[NodeId, ...]
    is_text: NDArray[np.bool_]

    def part(self, start: int, stop: int) -> "Plan":
        """Take the points from `start` up to `stop`."""
        return Plan(self.nodes[start:stop], self.is_text[start:stop])


class OpcuaDriver:
    """One connection to an OPC UA server; reads and subscribes.

    A reading's time is the source's, else the server's, else now. Repeats of one (time, value) are
    passed on: a server repeats current values when a subscription begins, and the collector drops
    what it has. `Delivery.tokens` are empty and `done` does nothing, for OPC UA has no
    acknowledgement that outlives the session.
    """

    def __init__(self, options: OpcuaDevice, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._session = Session(options)

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost`, `Refused` or `OptionsWrong`."""
        if self._options.user is not None or self._options.password is not None:
            msg = (
                f"{self._options.url}: user and password would travel unencrypted; "
                "leave them out, this version connects without encryption only"
            )
            raise OptionsWrong(msg)
        await self._session.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close session and connection."""
        await self._session.close()

    def plan(self, points: Sequence[PointSource]) -> Plan:
        """Read the node ids; raises `OptionsWrong` naming the point."""
        nodes = []
        for source in points:
            options = OpcuaPoint.model_validate(source.options)
            try:
                nodes.append(parse_node(options.node))
            except OptionsWrong as error:
                msg = f"{source.point.key}: {error}"
                raise OptionsWrong(msg) from error
        texts = [source.point.type is PointType.TEXT for source in points]
        return Plan(tuple(nodes), np.array(texts, np.bool_))

    async def read(self, plan: Plan) -> Columns:
        """Read every node once; one that cannot be read or decoded is bad, the others live."""
        parts = []
        chunk = self._session.read_chunk
        for start in range(0, len(plan.nodes), chunk):
            part = await self._read_part(plan.part(start, start + chunk))
            parts.append(part.with_series(part.series + np.int32(start)))
        return concatenate(parts)

    async def subscribe(self, plan: Plan, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        """Yield one delivery a notification until the link is lost.

        Nodes that cannot be monitored come first, as bad readings. At most a few notifications wait
        here; what follows waits at the server, and if it overflows there (which the server flags)
        `LinkLost` says so *before* anything newer is yielded, so that the gap covers the hole. A
        notification that cannot be decoded is replaced by a read of all points.
        """
        del known  # OPC UA repeats nothing over sessions
        subscription = await self._session.create_subscription()
        publishing = Publishing(self._session, subscription, self._options.url)
        is_linked = True
        try:
            refused = await self._monitor(subscription, plan)
            if len(refused):
                yield Delivery(refused, (), _nothing)
            while True:
                publication = await publishing.next(self._options.timeout_s)
                if publication.subscription_id == subscription.id:
                    for columns in await self._columns(publication, plan):
                        yield Delivery(columns, (), _nothing)
        except LinkLost:
            is_linked = False
            raise
        finally:
            await publishing.close()
            if is_linked:
                await self._session.delete_subscription(subscription.id)

    async def _columns(self, publication: Publication, plan: Plan) -> list[Columns]:
        if any(fell_behind(values) for values in publication.changes):
            msg = (
                f"{self._options.url}: fell behind, the server dropped values; "
                "raise queue_size or sample less often"
            )
            raise LinkLost(msg)
        now_us = self._clock.now_us()
        known = [_within(values, len(plan.nodes)) for values in publication.changes]
        columns = [to_columns(values, plan.is_text, now_us) for values in known if len(values)]
        return [*columns, await self.read(plan)] if publication.damaged else columns

    async def _monitor(self, subscription: Subscription, plan: Plan) -> Columns:
        """Monitor all points; gives a bad reading for each that the server refuses."""
        statuses: list[int] = []
        chunk = self._session.monitor_chunk
        items = list(enumerate(plan.nodes))
        for start in range(0, len(items), chunk):
            statuses += await self._monitor_part(subscription, items[start : start + chunk])
        refused = np.flatnonzero(np.array(statuses, np.uint32) >= _GOOD_LIMIT)
        values = _failed(refused.astype(np.uint32), np.array(statuses, np.uint32)[refused])
        return to_columns(values, plan.is_text, self._clock.now_us())

    async def _monitor_part(
        self, subscription: Subscription, items: Sequence[tuple[int, NodeId]]
    ) -> list[int]:
        try:
            return await self._session.monitor(subscription.id, items)
        except TooMuchAtOnce as error:
            if len(items) == 1:
                return [error.status]
        half = len(items) // 2
        return [
            *await self._monitor_part(subscription, items[:half]),
            *await self._monitor_part(subscription, items[half:]),
        ]

    async def _read_part(self, plan: Plan) -> Columns:
        try:
            values = decode_read(await self._session.read(plan.nodes), len(plan.nodes))
        except (Malformed, TooMuchAtOnce) as error:
            if len(plan.nodes) == 1:
                status = error.status if isinstance(error, TooMuchAtOnce) else _BAD_DECODING
                values = _failed(np.zeros(1, np.uint32), np.array([status], np.uint32))
            else:
                return await self._read_halves(plan)
        return to_columns(values, plan.is_text, self._clock.now_us())

    async def _read_halves(self, plan: Plan) -> Columns:
        half = len(plan.nodes) // 2
        first = await self._read_part(plan.part(0, half))
        second = await self._read_part(plan.part(half, len(plan.nodes)))
        return concatenate([first, second.with_series(second.series + np.int32(half))])


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    return DriverType("opcua", OpcuaDevice, OpcuaPoint, OpcuaDriver, pushes=True)


def _failed(handles: NDArray[np.uint32], statuses: NDArray[np.uint32]) -> Values:
    count = len(handles)
    times = np.zeros(count, np.int64)
    carried = np.full(count, NOTHING, np.uint8)
    return Values(handles, statuses, times, times, np.full(count, np.nan), carried)


def _within(values: Values, count: int) -> Values:
    """Leave out values under handles that were never given out."""
    if not len(values) or int(values.handle.max()) < count:
        return values
    rows = np.flatnonzero(values.handle < count)
    texts = {at: values.texts[row] for at, row in enumerate(rows.tolist()) if row in values.texts}
    return replace(
        values,
        **{
            name: getattr(values, name)[rows]
            for name in ("handle", "status", "source", "server", "value", "carried")
        },
        texts=texts,
    )


def _nothing() -> None:
    """There is nothing to acknowledge."""
