"""The BACnet/IP driver: reads properties of one device, writes them at a priority, browses it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

from pydantic import BaseModel

from protocols.bacnet import codec
from protocols.bacnet.changes import (
    PRESENT_VALUE,
    Changes,
    Row,
    columns_of,
    missed,
    refusals,
    watch_of,
)
from protocols.bacnet.client import ANY_DEVICE, Client, Property, Rejection, resolve
from protocols.bacnet.cov import Due, Place, Subscriptions, Told
from protocols.bacnet.listing import listed
from protocols.bacnet.options import BacnetDevice, BacnetPoint, BacnetSearch
from protocols.bacnet.sweep import Plan, property_of, read_rows
from protocols.driver import Delivery, DriverType, Found, Page, PointSource
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost, OptionsWrong, Refused

_IDENTITY: Final = {
    "vendor": "vendor-name",
    "model": "model-name",
    "version": "firmware-revision",
    "serial": "serial-number",
    "name": "object-name",
}


class BacnetDriver:
    """Reads one device over a socket of its own; satisfies `protocols.driver.Driver`."""

    def __init__(self, options: BacnetDevice, *, clock: Clock | None = None) -> None:
        """Keep the options; nothing is opened before `async with`."""
        self._options = options
        self._clock = clock or SystemClock()
        self._client: Client | None = None
        self._instance = ANY_DEVICE
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Bind a socket and see that the device answers, and is the one that is meant."""
        options = self._options
        host = await resolve(options.host, options.port)
        self._client = await Client.open(
            f"{host}:{options.port}",
            local=f"0.0.0.0:{options.local_port}",
            timeout_s=options.timeout_s,
            retries=options.retries,
        )
        try:
            await self._greet()
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def _greet(self) -> None:
        options = self._options
        found = await self._open().instance(options.timeout_s)
        self._instance = found if found is not None else (options.instance or ANY_DEVICE)
        if found is not None and options.instance not in {None, found}:
            msg = (
                f"BACnet {options.host}: device {found} answers there, not {options.instance}:"
                " correct the address or the instance"
            )
            raise Refused(msg)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the socket back."""
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> Client:
        if self._client is None:
            msg = f"BACnet {self._options.host}:{self._options.port}: not connected"
            raise LinkLost(msg)
        return self._client

    def plan(self, points: Sequence[PointSource]) -> Plan:
        """Name the properties that are read; raises `OptionsWrong`."""
        sources = [BacnetPoint.model_validate(source.options) for source in points]
        if self._options.mode == "cov" and any(_place(one) is None for one in sources):
            msg = f"BACnet devices tell of changes of {PRESENT_VALUE} alone: use the mode auto"
            raise OptionsWrong(msg)
        return Plan(
            [property_of(one) for one in sources],
            [source.point.type for source in points],
            self._options.max_points,
            points,
        )

    async def read(self, plan: Plan) -> Columns:
        """Read every point once, with the status flags of its object."""
        rows = await self._read_rows(plan, range(len(plan.properties)))
        return columns_of(rows, self._clock.now_us())

    async def _read_rows(self, plan: Plan, rows: Sequence[int]) -> list[Row]:
        async with self._turn:
            return await read_rows(self._open(), plan, rows)

    async def subscribe(self, plan: Plan, known: Sequence[bytes]) -> AsyncGenerator[Delivery]:
        """Yield what the device tells of its objects, and what is read of those it does not.

        A change comes once, whether it was told or found by a check. Nothing is acknowledged: what
        was told before is told again when somebody subscribes. With the mode `cov`, a point of
        which the device does not tell is bad; with `auto` it is read every `poll_s`.
        """
        del known
        is_told_alone = self._options.mode == "cov"
        places = [_place(source.options) for source in plan.sources]
        watch, changes = watch_of(places), Changes(plan.types)
        subscriptions = Subscriptions(self._open(), self._options, watch)
        async with aclosing(subscriptions.events()) as events:
            async for event in events:
                if isinstance(event, Due) and not event.is_check and is_told_alone:
                    rows = changes.new(refusals(watch, codec.refusal))
                else:
                    rows = await self._rows_of(event, plan, changes)
                if isinstance(event, Due) and event.is_check:
                    await subscriptions.renew(missed(watch, rows))
                if rows:
                    yield Delivery(columns_of(rows, self._clock.now_us()), (), _nothing)

    async def _rows_of(self, event: Told | Due, plan: Plan, changes: Changes) -> list[Row]:
        if isinstance(event, Told):
            told = changes.told(event.rows, event.notice)
            if told is not None:
                return told
        read = await self._read_rows(plan, event.rows)
        return changes.new(read) if isinstance(event, Told) or event.is_check else read

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Write at a priority of the device's own array; None relinquishes that priority."""
        point = BacnetPoint.model_validate(source.options)
        async with self._turn:
            await self._open().write(property_of(point), _written(point, value), priority)

    async def browse(self, parent: str = "", cursor: str = "", limit: int = 200) -> Page:
        """List the device's objects, which lie flat."""
        if parent:
            msg = f"BACnet: {parent!r} is no folder; a device's objects lie flat"
            raise OptionsWrong(msg)
        async with self._turn:
            return await listed(self._open(), self._instance, cursor, limit)

    async def reach(self) -> str:
        """See whether a device answers at the address."""
        host = await resolve(self._options.host, self._options.port)
        place = f"{host}:{self._options.port}"
        client = await Client.open(
            place, local=f"0.0.0.0:{self._options.local_port}", timeout_s=self._options.timeout_s
        )
        try:
            await client.instance(self._options.timeout_s)
        except LinkLost as error:
            msg = (
                f"{error}: UDP has no connection to try, so the device may be off, at another"
                " address, or behind a firewall that drops UDP"
            )
            raise LinkLost(msg) from error
        finally:
            await client.close()
        return place

    async def identify(self) -> Mapping[str, str]:
        """Ask the device object who it is."""
        found: dict[str, str] = {}
        async with self._turn:
            client = self._open()
            for key, name in _IDENTITY.items():
                try:
                    value = await client.read(Property("device", self._instance, name))
                except Rejection:
                    continue
                if str(value):
                    found[key] = str(value)
        return found


def _written(point: BacnetPoint, value: float | str | None) -> float | str | int | None:
    if value is None or isinstance(value, str) == (point.object == "characterstring-value"):
        is_whole = point.object.startswith(("binary", "multi-state", "integer", "positive"))
        return int(value) if is_whole and isinstance(value, float | int) else value
    msg = f"BACnet {point.object} takes {'a text' if isinstance(value, float) else 'a number'}"
    raise OptionsWrong(msg)


def _place(source: BaseModel) -> Place | None:
    """Tell which object's changes tell of a point; None if none's do."""
    point = BacnetPoint.model_validate(source)
    if point.property != PRESENT_VALUE or point.index is not None:
        return None
    return point.object, point.instance


def _nothing() -> None:
    """There is nothing to acknowledge."""


async def discover(search: BacnetSearch, progress: Callable[[float], None]) -> AsyncIterator[Found]:
    """Ask by one Who-Is, and name each device that answers within the wait."""
    local = f"{search.local}:{search.local_port}"
    client = await Client.open(f"{search.broadcast}:{search.port}", local=local)
    try:
        for device in await client.who_is(search.low, search.high, search.wait_s):
            options = {"host": device.host, "port": device.port, "instance": device.instance}
            facts = {"vendor": f"vendor {device.vendor_id}"}
            yield Found(f"BACnet device {device.instance}", options, facts)
    finally:
        await client.close()
    progress(1.0)


def _address(options: BacnetDevice) -> str:
    return f"{options.host}:{options.port}"


def _is_polled(options: BacnetDevice) -> bool:
    return options.mode == "poll"


def driver_type() -> DriverType:
    """Describe the BACnet/IP driver to the registry."""
    return DriverType(
        name="bacnet",
        title="BACnet/IP",
        device_options=BacnetDevice,
        point_options=BacnetPoint,
        make=BacnetDriver,
        address=_address,
        discover=discover,
        discover_options=BacnetSearch,
        releases=True,
        pushes=True,
        polls=_is_polled,
    )
