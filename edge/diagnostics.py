"""The gateway's own points: how the machine, the outbox, the link and each device are doing.

To the collector they are a device like any other, read on its own interval; so they are buffered,
sent, stored and counted like any other, also against the project's quotas.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
from pydantic import BaseModel, ConfigDict

from edge.collector import DeviceState
from edge.parts import Parts
from edge.settings import DIAGNOSTICS_NAME, Device, DiagnosticsSettings
from protocols.driver import DriverType, PointSource
from shared.clock import Clock
from shared.columns import Columns
from shared.link import MAX_POINTS
from shared.model import Point, PointClass, PointType
from shared.quality import GOOD, Reason, bad

MEGABYTE: Final = 1e6

Values = Callable[[], Awaitable[dict[tuple[str, str], float]]]

_OWN: Final[Mapping[str, tuple[str, PointType]]] = {
    "cpu": ("%", PointType.NUMBER),
    "memory": ("%", PointType.NUMBER),
    "process_memory": ("MB", PointType.NUMBER),
    "disk_free": ("MB", PointType.NUMBER),
    "temperature": ("°C", PointType.NUMBER),
    "buffer_used": ("MB", PointType.NUMBER),
    "buffer_days": ("d", PointType.NUMBER),
    "clock_offset": ("s", PointType.NUMBER),
    "uplink_up": ("", PointType.BOOLEAN),
}
_OF_DEVICE: Final[Mapping[str, tuple[str, PointType]]] = {
    "errors": ("", PointType.NUMBER),
    "up": ("", PointType.BOOLEAN),
}


class DiagnosticOptions(BaseModel):
    """Options of the gateway's own device: none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DiagnosticSource(BaseModel):
    """What a point tells: something of the gateway, or of the device that it names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    device: str = ""


@dataclass(slots=True)
class Diagnostics:
    """Makes the gateway's own device, which asks the running parts once there are any."""

    settings: DiagnosticsSettings
    gateway: str
    data: Path
    clock: Clock
    parts: Parts | None = None
    _names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        has_sensor = not math.isnan(temperature())
        self._names = tuple(name for name in _OWN if name != "temperature" or has_sensor)

    def beside(self, devices: Sequence[Device]) -> tuple[Device, ...]:
        """Add the gateway's own device; not where that is more points than the link takes."""
        taken = sum(len(one.points) for one in devices)
        sources = (*self._own(), *self._of(devices))
        if not self.settings.enabled or taken + len(sources) > MAX_POINTS:
            return tuple(devices)
        kind = DriverType(
            DIAGNOSTICS_NAME,
            DiagnosticOptions,
            DiagnosticSource,
            lambda _: _Reader(self.values, self.clock),
            title="The gateway itself",
        )
        interval_s = self.settings.interval_s
        own = Device(DIAGNOSTICS_NAME, kind, interval_s, DiagnosticOptions(), sources)
        return (*devices, own)

    def _own(self) -> tuple[PointSource, ...]:
        return tuple(
            _source(f"_gateway/{self.gateway}/{name}", _OWN[name], DiagnosticSource(what=name))
            for name in self._names
        )

    def _of(self, devices: Sequence[Device]) -> tuple[PointSource, ...]:
        return tuple(
            _source(
                f"_device/{self.gateway}/{device.name}/{name}",
                kind,
                DiagnosticSource(what=name, device=device.name),
            )
            for device in devices
            for name, kind in _OF_DEVICE.items()
        )

    async def values(self) -> dict[tuple[str, str], float]:
        """Ask everything once: by what it is, and by device; NaN where nobody knows."""
        found = {
            ("", name): value
            for name, value in (await asyncio.to_thread(of_machine, self.data)).items()
        }
        parts = self.parts
        if parts is None:
            return found
        room = await parts.room()
        offset_s = parts.uplink.clock_offset_s
        found |= {
            ("", "buffer_used"): room.used_bytes / MEGABYTE,
            ("", "buffer_days"): math.nan if room.days_left is None else room.days_left,
            ("", "clock_offset"): math.nan if offset_s is None else offset_s,
            ("", "uplink_up"): float(parts.uplink.is_connected),
        }
        for task in parts.collector.tasks:
            found[task.device.name, "errors"] = float(task.errors)
            found[task.device.name, "up"] = float(task.state is DeviceState.READING)
        return found


def _source(key: str, kind: tuple[str, PointType], options: DiagnosticSource) -> PointSource:
    unit, type_ = kind
    return PointSource(Point(key, unit, type_, PointClass.LOW), options)


def of_machine(data: Path) -> dict[str, float]:
    """Look at the machine; CPU is the share since the last look. Blocks."""
    return {
        "cpu": psutil.cpu_percent(None),
        "memory": psutil.virtual_memory().percent,
        "process_memory": psutil.Process().memory_info().rss / MEGABYTE,
        "disk_free": psutil.disk_usage(str(data)).free / MEGABYTE,
        "temperature": temperature(),
    }


def temperature() -> float:
    """Tell the temperature of the hottest sensor; NaN where there is none. Blocks."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    return max((one.current for several in sensors.values() for one in several), default=math.nan)


class _Reader:
    """The driver of the gateway's own device."""

    def __init__(self, values: Values, clock: Clock) -> None:
        self._values = values
        self._clock = clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def plan(self, points: Sequence[PointSource]) -> list[tuple[str, str]]:
        sources = [DiagnosticSource.model_validate(one.options) for one in points]
        return [(one.device, one.what) for one in sources]

    async def read(self, plan: list[tuple[str, str]]) -> Columns:
        values = await self._values()
        value = [values.get(one, math.nan) for one in plan]
        quality = [bad(Reason.NOT_YET_REPORTED) if math.isnan(one) else GOOD for one in value]
        return Columns.of(range(len(plan)), [self._clock.now_us()] * len(plan), value, quality)
