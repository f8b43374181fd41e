"""The OPC UA driver: points read in batches, or pushed by a subscription that is watched."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

import numpy as np

from protocols.driver import Delivery, DriverType, Page, PointSource
from protocols.opcua import probing
from protocols.opcua.addresses import parse_address
from protocols.opcua.browsing import Browser
from protocols.opcua.discovery import OpcuaSearch, discover
from protocols.opcua.following import Following
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.opcua.reading import Plan, Reading
from protocols.opcua.resolving import Resolver
from protocols.opcua.session import Session
from protocols.opcua.writing import write
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import OptionsWrong
from shared.model import PointType


class OpcuaDriver:
    """One connection to an OPC UA server: reads, subscribes, writes, browses.

    A reading's time is the source's, else the server's, else now. Repeats of one (time, value) are
    passed on: a server repeats current values when a subscription begins, and the collector drops
    what it has. `Delivery.tokens` are empty and `done` does nothing, for OPC UA has no
    acknowledgement that outlives the session.
    """

    def __init__(self, options: OpcuaDevice, clock: Clock | None = None) -> None:
        """Keep the options; raises `OptionsWrong` for an identity that is none."""
        self._options = options
        self._clock = clock or SystemClock()
        self._session = Session(options)
        self._resolver = Resolver(self._session)
        self._reading = Reading(self._session, self._resolver, self._clock)
        self._browser = Browser(self._session, self._resolver)

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost`, `Refused` or `OptionsWrong`."""
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
        """Note where the points are; namespaces and paths are looked up over a connection."""
        options = [OpcuaPoint.model_validate(source.options) for source in points]
        addresses = tuple(parse_address(one.node, one.path, one.index) for one in options)
        texts = [source.point.type is PointType.TEXT for source in points]
        paths = [bool(address.path) for address in addresses]
        return Plan(addresses, np.array(texts, np.bool_), np.array(paths, np.bool_))

    async def read(self, plan: Plan) -> Columns:
        """Read every node once; one that cannot be read or decoded is bad, the others live."""
        return await self._reading.read(plan)

    async def subscribe(self, plan: Plan, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        """Yield one delivery a notification until the link is lost.

        Nodes that cannot be monitored come first, as bad readings, or are read at an interval. At
        most a few notifications wait here; what follows waits at the server, and if it overflows
        there (which the server flags) `LinkLost` says so *before* anything newer is yielded, so
        that the gap covers the hole. A notification that cannot be decoded is replaced by a read of
        all points.
        """
        del known  # OPC UA repeats nothing over sessions
        following = Following(self._session, self._reading, self._clock, plan)
        async with aclosing(following.all()) as readings:
            async for columns in readings:
                yield Delivery(columns, (), _nothing)

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Write one value in the server's own type; OPC UA knows no priorities and no release."""
        del priority
        if value is None:
            msg = f"{source.point.key}: OPC UA gives nothing back; write a value"
            raise OptionsWrong(msg)
        (target,) = await self._reading.targets(self.plan([source]))
        try:
            await write(self._session, target, value)
        except OptionsWrong as error:
            msg = f"{source.point.key}: {error}"
            raise OptionsWrong(msg) from error

    async def browse(self, parent: str = "", cursor: str = "", limit: int = 200) -> Page:
        """List what lies below a node; raises `OptionsWrong`, `Refused`, `LinkLost`."""
        return await self._browser.page(parent, cursor, limit)

    async def reach(self) -> str:
        """See whether somebody listens at the address; raises `LinkLost`."""
        return await probing.reach(self._options)

    async def identify(self) -> Mapping[str, str]:
        """Ask the server who made it."""
        return await probing.identify(self._session)


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    return DriverType(
        name="opcua",
        title="OPC UA",
        device_options=OpcuaDevice,
        point_options=OpcuaPoint,
        make=OpcuaDriver,
        pushes=True,
        address=_url,
        polls=_is_polled,
        discover=discover,
        discover_options=OpcuaSearch,
    )


def _url(options: OpcuaDevice) -> str:
    return options.url.rstrip("/").lower()


def _is_polled(options: OpcuaDevice) -> bool:
    return options.mode == "poll"


def _nothing() -> None:
    """There is nothing to acknowledge."""
