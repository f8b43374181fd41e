"""What the tests of the twin stand on: documents of fake devices, and a gateway's inner parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from edge.collector import Collector, point_set_of
from edge.holes import GapReason
from edge.intake import Intake
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.settings import OutboxSection
from edge.twin import Twin
from protocols import registry
from protocols.driver import Driver, DriverType
from shared.batch import decode, decode_events
from shared.clock import Clock, SystemClock
from shared.errors import OptionsWrong
from shared.model import Kind
from tests.integration.outbox_kit import ALL
from tests.servers.fake_driver import FakeDevice, _FakeDriver

DEADLINE_S = 60.0


class FakeDoor(BaseModel):
    """Options below the options."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pin: SecretStr


class FakeOptions(BaseModel):
    """Options of a fake device: which one it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    speed: int = Field(1, ge=1, le=9)
    password: SecretStr | None = None
    doors: tuple[FakeDoor, ...] = ()


class FakeSource(BaseModel):
    """Options of a fake point."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    at: int = Field(0, ge=0)


@dataclass
class Works:
    """The fake devices there are, by id, made when they are first spoken to."""

    devices: dict[str, FakeDevice] = field(default_factory=dict)
    passwords: list[str] = field(default_factory=list)
    """What the drivers were given, in the order in which they were made."""

    def device(self, name: str) -> FakeDevice:
        return self.devices.setdefault(name, FakeDevice())

    def driver_type(self) -> DriverType:
        def make(options: FakeOptions) -> Driver:
            for secret in (options.password, *(door.pin for door in options.doors)):
                if secret is not None:
                    self.passwords.append(secret.get_secret_value())
            return _Planned(self.device(options.id))

        return DriverType("fake", FakeOptions, FakeSource, make, address=lambda one: str(one.id))


class _Planned(_FakeDriver):
    def plan(self, points: Any) -> int:
        if any(one.options.at == 666 for one in points):
            raise OptionsWrong("nothing can be read at 666")
        return len(points)


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    """Let the driver `fake` be found beside the built-in ones."""
    made, find = Works(), registry.find
    monkeypatch.setattr(
        registry, "find", lambda name: made.driver_type() if name == "fake" else find(name)
    )
    return made


def device(name: str, *keys: str, interval_s: float = 0.01, **options: Any) -> dict[str, Any]:
    """Write a fake device of a document; its points are called after it unless told otherwise."""
    points = [{"key": key, "source": {"at": at}} for at, key in enumerate(keys or (f"{name}/p",))]
    return {
        "name": name,
        "driver": "fake",
        "interval_s": interval_s,
        "options": {"id": name, **options},
        "points": points,
    }


def document(*devices: Mapping[str, Any]) -> dict[str, Any]:
    return {"devices": list(devices)}


@dataclass
class Site:
    """A gateway's inner parts, running."""

    twin: Twin
    collector: Collector
    intake: Intake
    outbox: Outbox

    async def polled(self, *fakes: FakeDevice, more: int = 3) -> None:
        """Wait until each was polled some times more."""
        wanted = [(fake, fake.polls + more) for fake in fakes]
        await until(lambda: all(fake.polls >= polls for fake, polls in wanted))


@asynccontextmanager
async def site(
    folder: Path, file: Mapping[str, Any] | None, clock: Clock | None = None
) -> AsyncIterator[Site]:
    clock = clock or SystemClock()
    twin = await Twin.opened(folder, file, clock)
    section = OutboxSection(commit_window_s=0.02)
    outbox, reason = await open_outbox(folder, point_set_of(twin.devices), clock, section)
    await outbox.begin(1 + len(outbox.index.epochs))
    intake = Intake(outbox, section, clock)
    if reason is not None:
        intake.restarted(reason)
    collector = Collector(twin.devices, intake, clock, seed=1)
    twin.change = collector.change
    try:
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            committing = group.create_task(intake.run())
            collecting = group.create_task(collector.run())
            yield Site(twin, collector, intake, outbox)
            collecting.cancel()
            await asyncio.wait([collecting])
            await intake.flushed()
            committing.cancel()
    finally:
        await twin.close()
        await outbox.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - counters of a fake have no event
            await asyncio.sleep(0.001)


async def stored(outbox: Outbox) -> dict[str, list[tuple[int, float]]]:
    """Read every reading in the outbox, by the key that its own point set gives it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for segment in await outbox.fetch(0, ALL, 100_000):
        if segment.kind is not Kind.READINGS:
            continue
        points = await outbox.point_set(segment.point_set)
        assert points is not None
        columns = decode(segment.body)
        rows = zip(columns.series, columns.observed_at, columns.value, strict=True)
        for series, at, value in rows:
            key = points.points[int(series)].key
            found.setdefault(key, []).append((int(at), float(value)))
    return found


async def gaps(outbox: Outbox) -> list[tuple[str, GapReason, int | None]]:
    """Read every gap: the keys it names, why, and how many polls were missed."""
    found = []
    for segment in await outbox.fetch(0, ALL, 100_000):
        if segment.kind is not Kind.EVENTS:
            continue
        points = await outbox.point_set(segment.point_set)
        assert points is not None
        for event in decode_events(segment.body):
            keys = [
                points.points[at].key
                for first, last in event["series"]
                for at in range(first, last + 1)
            ]
            found.append((" ".join(keys), GapReason(event["reason"]), event["missed"]))
    return found
