"""Drivers of the contract that do what a test tells them: answer, take their time, fail, push."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel

from edge.settings import Device
from protocols.driver import Delivery, Driver, DriverType, PointSource
from shared.columns import Columns
from shared.model import Point


class NoOptions(BaseModel):
    """Options of a device that needs none."""


@dataclass
class FakeDevice:
    """What a test sees of its device, and how it tells it what to do.

    Each connection and each poll awaits its step, which may raise an error of the contract. A poll
    answers with `value` of every point at the device's own time `at_us`.
    """

    points: int = 2
    connecting: Callable[[], Awaitable[None]] | None = None
    reading: Callable[[], Awaitable[None]] | None = None
    pushing: Callable[[Sequence[bytes]], AsyncIterator[Delivery]] | None = None
    at_us: int = 1_790_000_000_000_000
    value: float = 0.0
    connections: int = 0
    disconnections: int = 0
    polls: int = 0
    known: list[tuple[bytes, ...]] = field(default_factory=list)

    def device(self, name: str, interval_s: float = 0.01, tokens_kept: int = 8) -> Device:
        """Configure the device, as `gateway.yaml` would."""
        points = tuple(
            PointSource(Point(f"{name}/p{nth}"), NoOptions()) for nth in range(self.points)
        )
        return Device(name, self.driver_type(tokens_kept), interval_s, NoOptions(), points)

    def driver_type(self, tokens_kept: int) -> DriverType:
        """Describe the driver that connects to this device."""
        pushes = self.pushing is not None

        def make(_: Any) -> Driver:
            return _PushingDriver(self) if pushes else _FakeDriver(self)

        return DriverType("fake", NoOptions, NoOptions, make, pushes, tokens_kept)


class _FakeDriver:
    def __init__(self, device: FakeDevice) -> None:
        self._device = device

    async def __aenter__(self) -> Self:
        self._device.connections += 1
        await asyncio.sleep(0)
        if self._device.connecting is not None:
            await self._device.connecting()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._device.disconnections += 1

    def plan(self, points: Sequence[PointSource]) -> int:
        return len(points)

    async def read(self, plan: int) -> Columns:
        device = self._device
        device.polls += 1
        await asyncio.sleep(0)
        if device.reading is not None:
            await device.reading()
        device.at_us += 1_000
        device.value += 1.0
        return Columns.of(range(plan), [device.at_us] * plan, [device.value] * plan, [0] * plan)


class _PushingDriver(_FakeDriver):
    async def subscribe(self, plan: int, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        self._device.known.append(tuple(known))
        assert self._device.pushing is not None
        async for delivery in self._device.pushing(known):
            yield delivery
