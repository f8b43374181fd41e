"""What the tests of commands stand on: a site whose clocks, device and end are turned by hand.

The device notes each physical write with the true time; the gateway sees only its own clocks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel
from sqlite_utils import Database

from edge.commands import Commander, CommandStore, Times
from edge.commands.store import FILE_NAME
from edge.commands.way import Heard, Target
from edge.commands.writing import Writer
from edge.writable import Value, WriteSection
from protocols.driver import PointSource
from shared.columns import Columns
from shared.errors import LinkLost, Refused
from shared.model import Point
from shared.quality import GOOD

START_S = 1_790_000_000.0
READ_S = 0.3
"""So much time goes by with each read."""

LIMITS = WriteSection(min=0, max=1_000_000, min_interval_s=0, release_value=-0.0, verify_within_s=1)


class Killed(BaseException):
    """The process ended here."""


@dataclass
class SiteClock:
    """True time, and the gateway's own clocks beside it."""

    true_s: float = START_S
    wall_off_s: float = 0.0
    booted_s: float = START_S - 100.0
    boot: str = "boot 0"
    is_synchronised: bool = True
    timeouts: list[tuple[float, asyncio.Timeout]] = field(default_factory=list)

    def now_us(self) -> int:
        return round((self.true_s + self.wall_off_s) * 1_000_000)

    def monotonic_s(self) -> float:
        return self.true_s - self.booted_s

    def times(self) -> Times:
        return Times(self, lambda: self.is_synchronised, self.boot)

    def advance(self, seconds: float) -> None:
        """Let time go by; waits whose time is over end."""
        self.true_s += seconds
        for at_s, one in self.timeouts:
            if at_s <= self.monotonic_s():
                one.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[None]:
        """Do what `asyncio.timeout` does, by this clock."""
        async with asyncio.timeout(None) as one:
            mine = (self.monotonic_s() + seconds, one)
            self.timeouts.append(mine)
            try:
                yield
            finally:
                self.timeouts.remove(mine)

    def us(self, seconds: float) -> int:
        """Write a time so far ahead as the gateway's wall has it."""
        return self.now_us() + round(seconds * 1_000_000)

    def reboot(self, wall_off_s: float) -> None:
        self.boot = f"boot {int(self.boot.split()[1]) + 1}"
        self.booted_s, self.wall_off_s, self.is_synchronised = self.true_s, wall_off_s, False


@dataclass
class Written:
    """One physical write."""

    point: str
    value: Value | None
    true_s: float


class NoOptions(BaseModel):
    """Options of a point that needs none."""


@dataclass
class SiteDevice:
    """A device that obeys, or does what a test tells it."""

    clock: SiteClock
    values: dict[str, float] = field(default_factory=dict)
    writes: list[Written] = field(default_factory=list)
    slow_s: float = 0.0
    """So much time goes by before a write takes effect."""
    says_no: bool = False
    loses_answer: bool = False
    """The write takes effect, and the link is lost before that is said."""
    clamps_at: float | None = None
    before_write: Callable[[str, Value | None], None] = lambda *_: None
    after_write: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def plan(self, points: Sequence[PointSource]) -> tuple[PointSource, ...]:
        return tuple(points)

    async def read(self, plan: Any) -> Columns:
        self.clock.advance(READ_S)
        found = [self.values.get(one.point.key, -1.0) for one in plan]
        return Columns.of(range(len(plan)), [self.clock.now_us()] * len(plan), found, [GOOD])

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        if self.says_no:
            raise Refused("the device says no")
        if self.slow_s:
            self.clock.advance(self.slow_s)
            for _ in range(4):  # whoever waits no more ends the write before it takes effect
                await asyncio.sleep(0)
        self.before_write(source.point.key, value)
        self.writes.append(Written(source.point.key, value, self.clock.true_s))
        stays = value if self.clamps_at is None else min(float(value or 0), self.clamps_at)
        self.values[source.point.key] = float(stays or 0)
        self.after_write()
        if self.loses_answer:
            raise LinkLost("no answer")


@dataclass
class SiteWay:
    """The way to two devices, each with points of its own."""

    devices: dict[str, SiteDevice]
    points: dict[str, str]
    """Which device has which point."""
    limits: dict[str, WriteSection]
    away: set[str] = field(default_factory=set)
    conditions: dict[str, Heard] = field(default_factory=dict)
    releases: bool = False

    def target(self, key: str) -> Target | None:
        limits = self.limits.get(key)
        if limits is None:
            return None
        name = self.points[key]
        driver = None if name in self.away else self.devices[name]
        return Target(name, PointSource(Point(key), NoOptions()), limits, self.releases, driver)

    def heard(self, key: str) -> Heard | None:
        return self.conditions.get(key)


class MortalStore(CommandStore):
    """A store that tells of each commit, before and after; dead, it does nothing more."""

    def __init__(self, path: Path, commits: Callable[[str], None]) -> None:
        self._commits = commits
        super().__init__(path)

    @contextmanager
    def writing(self) -> Iterator[Database]:
        self._commits("before")
        with super().writing() as db:
            yield db
        self._commits("after")


@dataclass
class CommandSite:
    """A gateway's commands on a site."""

    folder: Path
    clock: SiteClock
    device: SiteDevice
    way: SiteWay
    commits: Callable[[str], None] = lambda _: None
    make_store: Callable[[Path, Callable[[str], None]], CommandStore] = MortalStore
    commander: Commander = field(init=False)

    async def start(self) -> None:
        store = self.make_store(self.folder / FILE_NAME, self.commits)
        times = self.clock.times()
        writer = Writer(self.way, self.clock, self.clock.timeout, again_s=0.0)
        self.commander = await Commander.opened(store, self.way, times, writer)

    async def stop(self) -> None:
        await self.commander.lanes.close()
        self.commander.desk.store.close()

    async def turn(self, advance_s: float = 0.0) -> None:
        self.clock.advance(advance_s)
        await self.commander.lanes.turn()
        await self.commander.lanes.settled()

    def written(self) -> list[Value | None]:
        return [one.value for one in self.device.writes]


def site_in(folder: Path, **limits: Any) -> CommandSite:
    """Make a site of one device with the points a and b; the limits are those of both."""
    clock = SiteClock()
    device = SiteDevice(clock)
    section = LIMITS.model_copy(update=limits)
    way = SiteWay({"d": device}, {"a": "d", "b": "d"}, {"a": section, "b": section})
    return CommandSite(folder, clock, device, way)
