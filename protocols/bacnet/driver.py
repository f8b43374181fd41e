"""The BACnet/IP driver: reads properties of one device, writes them at a priority, browses it."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from protocols.bacnet import codec
from protocols.bacnet.client import ANY_DEVICE, Client, Property, Rejection, resolve
from protocols.bacnet.listing import listed
from protocols.bacnet.options import BacnetDevice, BacnetPoint, BacnetSearch
from protocols.driver import DriverType, Found, Page, PointSource
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import PointType

_STATUS: Final = "status-flags"
_IDENTITY: Final = {
    "vendor": "vendor-name",
    "model": "model-name",
    "version": "firmware-revision",
    "serial": "serial-number",
    "name": "object-name",
}


@dataclass(slots=True)
class Plan:
    """What is asked for; `portion` points at once, fewer when the device could not answer so many.

    It outlives a reconnect, and with it what was learned.
    """

    properties: list[Property]
    types: list[PointType]
    portion: int
    sources: Sequence[PointSource] = field(default=())


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
        return Plan(
            [_property(one) for one in sources],
            [source.point.type for source in points],
            self._options.max_points,
            points,
        )

    async def read(self, plan: Plan) -> Columns:
        """Read every point once, with the status flags of its object."""
        async with self._turn:
            client = self._open()
            answers: list[Any] = []
            while len(answers) < len(plan.properties):
                portion = plan.properties[len(answers) : len(answers) + plan.portion]
                answers += await self._portion(client, plan, portion)
            now_us = self._clock.now_us()
        return _columns(plan, answers, now_us)

    async def _portion(
        self, client: Client, plan: Plan, portion: Sequence[Property]
    ) -> list[tuple[Any, Any]]:
        asked = [one for wanted in portion for one in (wanted, _status(wanted))]
        try:
            values = await client.read_many(asked)
        except Rejection as error:
            if len(portion) > 1:
                plan.portion = max(1, min(plan.portion, len(portion)) // 2)
                half = len(portion) // 2
                return [
                    *await self._portion(client, plan, portion[:half]),
                    *await self._portion(client, plan, portion[half:]),
                ]
            return [await self._alone(client, portion[0], error)]
        return list(zip(values[::2], values[1::2], strict=True))

    async def _alone(self, client: Client, wanted: Property, error: Rejection) -> tuple[Any, Any]:
        """Read one property by the plain service, which every device has."""
        try:
            value = await client.read(wanted)
        except Rejection as refused:
            return refused, error
        try:
            return value, await client.read(_status(wanted))
        except Rejection as refused:
            return value, refused

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Write at a priority of the device's own array; None relinquishes that priority."""
        point = BacnetPoint.model_validate(source.options)
        async with self._turn:
            await self._open().write(_property(point), _written(point, value), priority)

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


def _property(point: BacnetPoint) -> Property:
    return Property(point.object, point.instance, point.property, point.index)


def _status(wanted: Property) -> Property:
    return Property(wanted.object, wanted.instance, _STATUS)


def _written(point: BacnetPoint, value: float | str | None) -> float | str | int | None:
    if value is None or isinstance(value, str) == (point.object == "characterstring-value"):
        is_whole = point.object.startswith(("binary", "multi-state", "integer", "positive"))
        return int(value) if is_whole and isinstance(value, float | int) else value
    msg = f"BACnet {point.object} takes {'a text' if isinstance(value, float) else 'a number'}"
    raise OptionsWrong(msg)


def _columns(plan: Plan, answers: Sequence[tuple[Any, Any]], now_us: int) -> Columns:
    size = len(answers)
    value, quality, texts = np.full(size, math.nan), np.zeros(size, np.uint16), {}
    for row, (read, text, how) in enumerate(_readings(plan, answers)):
        value[row], quality[row] = read, how
        if text is not None:
            texts[row] = text
    return Columns(np.arange(size, dtype=np.int32), np.full(size, now_us), value, quality, texts)


def _readings(plan: Plan, answers: Sequence[tuple[Any, Any]]) -> Iterator[codec.Read]:
    for (found, flags), kind in zip(answers, plan.types, strict=True):
        if isinstance(found, Rejection):
            yield math.nan, None, codec.refusal(found.word)
        else:
            yield codec.reading(found, None if isinstance(flags, Rejection) else flags, kind)


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
    )
