"""Readings from before the clock was set: kept on disk, given their right times, never lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest

from edge import hold as holding
from edge import intake as intaking
from edge.aggregate import AggregateSection
from edge.answers import Answer, Silence
from edge.collector import Collector
from edge.hold import BUILT_US, LONGEST_S, NEAR_US, Hold
from edge.holes import GapReason
from edge.intake import Intake
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, open_outbox
from edge.settings import OutboxSection
from shared.batch import decode
from shared.columns import Columns, concatenate
from shared.model import Kind, Point, PointSet
from shared.quality import Flag, Reason
from tests.integration.outbox_kit import (
    ALL,
    POINTS,
    START_US,
    copied,
    damaged_in,
    gaps_in,
    no_open_outbox,
)
from tests.servers.fake_driver import FakeDevice

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

S = 1_000_000
SECTION = OutboxSection(commit_window_s=0.02)
UNSYNCHRONISED, ADJUSTED = int(Flag.CLOCK_UNSYNCHRONISED), int(Flag.TIME_ADJUSTED)


@dataclass
class Machine:
    """A machine whose clock is wrong by `wrong_us` until it is set."""

    true_us: int
    up_us: int = 0
    wrong_us: int = 0
    is_set: bool = False
    boot: str = "first"

    def now_us(self) -> int:
        return self.true_us + self.wrong_us

    def monotonic_s(self) -> float:
        return self.up_us / S

    def go(self, seconds: float) -> None:
        self.true_us += round(seconds * S)
        self.up_us += round(seconds * S)

    def set_clock(self) -> None:
        self.wrong_us, self.is_set = 0, True


@dataclass
class Site:
    machine: Machine
    outbox: Outbox
    intake: Intake

    async def read(self, value: float, device_us: int | None = None) -> int:
        """Read one point; gives the true time of it."""
        at_us = self.machine.now_us() if device_us is None else device_us
        await self.intake.answer(Answer("device", Columns.of([0], [at_us], [value], [0])))
        await self.intake.flushed()
        return self.machine.true_us if device_us is None else device_us

    async def turn(self) -> None:
        """Let the intake look once more."""
        await self.intake.silence(Silence("other", np_series(7), GapReason.DEVICE_DOWN, 0))
        await self.intake.flushed()

    async def readings(self) -> Columns:
        found = await self.outbox.fetch(0, ALL, 10_000)
        return concatenate([decode(one.body) for one in found if one.kind is Kind.READINGS])


def np_series(one: int):  # type: ignore[no-untyped-def]  # a column of one series
    return Columns.of([one], [0], [0.0], [0]).series


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(START_US, 20 * S, wrong_us=1_000 * S - START_US)
    for module in (holding, intaking):
        monkeypatch.setattr(module, "boot_id", lambda: made.boot)
    return made


@asynccontextmanager
async def site(folder: Path, machine: Machine) -> AsyncIterator[Site]:
    outbox, reason = await open_outbox(folder, POINTS, machine, SECTION)
    await outbox.begin(random.randrange(1, 2**60))
    newest = int(outbox.tail.last_at.max(initial=0))
    hold = Hold(machine, 300.0, newest, lambda: machine.is_set)
    flags = lambda: 0 if machine.is_set else UNSYNCHRONISED  # noqa: E731 - one line
    intake = Intake(outbox, SECTION, machine, flags=flags, hold=hold)
    if reason is not None:
        intake.restarted(reason)
    committing = asyncio.create_task(intake.run())
    try:
        yield Site(machine, outbox, intake)
        assert not committing.done()
    finally:
        committing.cancel()
        await asyncio.wait([committing])
        await outbox.close()


async def test_readings_of_a_boot_in_1970_get_their_true_times(
    tmp_path: Path, machine: Machine
) -> None:
    async with site(tmp_path, machine) as gw:
        times = []
        for nth in range(50):
            times.append(await gw.read(nth))
            machine.go(10)
        assert gw.outbox.held.readings == 50
        assert gw.outbox.index.ledger().produced == 0
        machine.set_clock()
        times.append(await gw.read(50))
        found = await gw.readings()
        gaps = await gaps_in(gw.outbox)
        ledger = gw.outbox.index.ledger()
    assert found.observed_at.tolist() == times
    assert found.value.tolist() == list(range(51))
    assert found.quality.tolist() == [ADJUSTED] * 50 + [0]
    assert (gw.outbox.held.readings, ledger.produced, ledger.imbalance()) == (0, 51, 0)
    assert gaps == []


async def test_times_of_the_device_are_its_own(tmp_path: Path, machine: Machine) -> None:
    async with site(tmp_path, machine) as gw:
        times = [await gw.read(nth, START_US + nth * S) for nth in range(5)]
        machine.go(60)
        machine.set_clock()
        await gw.turn()
        found = await gw.readings()
    assert found.observed_at.tolist() == times
    assert found.quality.tolist() == [0] * 5


async def test_a_crash_before_the_clock_is_set_costs_nothing(
    tmp_path: Path, machine: Machine
) -> None:
    (tmp_path / "a").mkdir()
    async with site(tmp_path / "a", machine) as gw:
        times = [await gw.read(1.0)]
        machine.go(10)
        crashed = copied(tmp_path / "a", tmp_path / "b")
    async with site(crashed, machine) as gw:
        machine.go(5)
        times.append(await gw.read(2.0))
        machine.go(100)
        machine.set_clock()
        await gw.turn()
        found = await gw.readings()
    assert found.observed_at.tolist() == times
    assert found.quality.tolist() == [ADJUSTED] * 2


async def test_what_an_earlier_boot_held_is_put_before_this_one_and_flagged(
    tmp_path: Path, machine: Machine
) -> None:
    async with site(tmp_path, machine) as gw:
        for nth in range(3):
            await gw.read(nth)
            machine.go(10)
    machine.go(3_600)
    machine.boot, machine.up_us, machine.wrong_us = "second", 30 * S, 0
    machine.set_clock()
    began_us = machine.true_us - 30 * S
    async with site(tmp_path, machine) as gw:
        await gw.turn()
        found = await gw.readings()
    assert found.observed_at.tolist() == [began_us - 20 * S, began_us - 10 * S, began_us]
    assert found.quality.tolist() == [ADJUSTED | UNSYNCHRONISED] * 3


async def test_a_clock_that_may_be_right_is_awaited_for_a_while_only(
    tmp_path: Path, machine: Machine
) -> None:
    machine.wrong_us = -2 * 3_600 * S
    async with site(tmp_path, machine) as gw:
        await gw.read(1.0)
        machine.go(301)
        await gw.read(2.0)
        found = await gw.readings()
    assert found.value.tolist() == [1.0, 2.0]
    assert found.quality.tolist() == [UNSYNCHRONISED] * 2
    assert (found.observed_at < START_US).all(), "nobody knows better"


async def test_a_clock_that_is_set_by_hours_moves_what_was_held(
    tmp_path: Path, machine: Machine
) -> None:
    machine.wrong_us = 2 * 3_600 * S
    async with site(tmp_path, machine) as gw:
        times = [await gw.read(1.0)]
        machine.go(30)
        machine.set_clock()
        times.append(await gw.read(2.0))
        found = await gw.readings()
    assert found.observed_at.tolist() == times


async def test_a_gap_at_a_start_in_1970_begins_at_the_last_committed_reading(
    tmp_path: Path, machine: Machine
) -> None:
    first = replace(machine, wrong_us=0, is_set=True)
    async with site(tmp_path, first) as gw:
        last_us = await gw.read(1.0)
    machine.go(600)
    machine.wrong_us = 1_000 * S - machine.true_us
    async with site(tmp_path, machine) as gw:
        await gw.intake.silence(
            Silence("device", np_series(0), GapReason.DEVICE_DOWN, 1, Reason.LINK_DOWN)
        )
        machine.go(10)
        again_us = await gw.read(2.0)
        machine.go(10)
        machine.set_clock()
        await gw.turn()
        gaps = [one for one in await gaps_in(gw.outbox) if one["series"] == [[0, 0]]]
        found = await gw.readings()
    assert [(one["from_us"], one["to_us"]) for one in gaps] == [(last_us, again_us)]
    assert found.observed_at.tolist() == [last_us, again_us - 10 * S, again_us]


async def test_damage_to_what_is_held_is_found_and_the_rest_is_kept(
    tmp_path: Path, machine: Machine
) -> None:
    async with site(tmp_path, machine) as gw:
        for nth in range(4):
            await gw.read(nth)
            machine.go(1)
    db = apsw.Connection(str(tmp_path / FILE_NAME))
    db.execute("UPDATE held SET body = CAST(x'00' || substr(body, 2) AS BLOB) WHERE id = 2")
    db.close()
    machine.set_clock()
    async with site(tmp_path, machine) as gw:
        await gw.turn()
        found = await gw.readings()
        reasons = {one["reason"] for one in await gaps_in(gw.outbox)}
    assert found.value.tolist() == [0.0, 2.0, 3.0]
    assert len(damaged_in(tmp_path)) == 1
    assert "outbox_damaged" in reasons


@pytest.mark.parametrize("seed", range(6))
async def test_crashes_boots_and_a_late_clock_lose_and_double_nothing(
    tmp_path: Path, machine: Machine, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "0"
    brought: list[float] = []
    folder.mkdir()
    for life in range(8):
        async with site(folder, machine) as gw:
            for _ in range(rng.randrange(1, 12)):
                machine.go(rng.uniform(1, 60))
                brought.append(float(len(brought)))
                await gw.read(brought[-1])
                if rng.random() < 0.1:
                    machine.set_clock()
            ledger = gw.outbox.index.ledger()
            assert ledger.produced + gw.outbox.held.readings == len(brought)
            assert ledger.imbalance() == 0
            after = copied(folder, tmp_path / str(life + 1))
        folder = after
        if rng.random() < 0.5:
            machine.boot, machine.up_us, machine.is_set = f"boot {life}", 15 * S, False
            machine.wrong_us = rng.choice([0, 1_000 * S - machine.true_us])
    machine.set_clock()
    async with site(folder, machine) as gw:
        await gw.turn()
        found = await gw.readings()
    assert sorted(found.value.tolist()) == brought
    assert (found.observed_at > BUILT_US).all()
    order = found.value[found.observed_at.argsort()]
    assert order.tolist() == brought, "the order in which they were read is kept"


async def test_nothing_is_made_of_times_that_mean_nothing(tmp_path: Path, machine: Machine) -> None:
    device = replace(
        FakeDevice(8).device("d"), aggregates=(AggregateSection(window_s=60, keep="rollups"),) * 8
    )
    async with site(tmp_path, machine) as gw:
        collector = Collector((device,), gw.intake, machine)
        (task,) = collector.tasks
        for nth in range(20):
            columns = Columns.of([0], [machine.now_us()], [nth], [0])
            await task._bring(Answer("d", columns))
            await task.report_due()
            machine.go(10)
        machine.set_clock()
        await gw.turn()
        found = await gw.readings()
    assert len(found) == 20


def test_it_is_over_when_the_kernel_says_so_or_time_is_up() -> None:
    machine = Machine(START_US, 0)
    hold = Hold(machine, 300.0, 0, lambda: machine.is_set)
    assert hold.is_on()
    machine.up_us = 299 * S
    assert hold.is_on()
    machine.up_us = 300 * S
    assert not hold.is_on()
    machine.up_us = 0
    assert not hold.is_on(), "for good"
    wrong = Hold(replace(machine, wrong_us=-START_US), 300.0, 0, lambda: False)
    assert wrong.is_on()
    assert not Hold(machine, 0.0).is_on()
    late = Hold(Machine(START_US, int(LONGEST_S) * S, -START_US), 300.0, 0, lambda: False)
    assert not late.is_on()
    assert NEAR_US < 300 * S


async def test_points_that_changed_while_readings_were_held_do_not_take_them(
    tmp_path: Path, machine: Machine
) -> None:
    """What is held speaks of the points of its own time, also if others are configured since."""
    keys = ["p5", "p3", "new"]
    async with site(tmp_path, machine) as gw:
        columns = Columns.of([3, 5, 6], [machine.now_us()] * 3, [3.0, 5.0, 6.0], [0] * 3)
        await gw.intake.answer(Answer("device", columns))
        await gw.intake.flushed()
        assert gw.outbox.held.readings == 3
    other = PointSet(tuple(Point(key) for key in keys))
    outbox, _ = await open_outbox(tmp_path, other, machine, SECTION)
    try:
        await outbox.begin(77)
        hold = Hold(machine, 300.0, 0, lambda: machine.is_set)
        intake = Intake(outbox, SECTION, machine, hold=hold)
        await intake.repoint(other)
        assert outbox.tail.point_set == other
        found: dict[str, float] = {}
        for one in await outbox.fetch(0, ALL, 100):
            points = await outbox.point_set(one.point_set)
            assert points is not None
            columns = decode(one.body)
            pairs = zip(columns.series.tolist(), columns.value.tolist(), strict=True)
            found |= {points.points[series].key: value for series, value in pairs}
        assert outbox.index.ledger().imbalance() == 0
    finally:
        await outbox.close()
    assert found == {"p3": 3.0, "p5": 5.0, "p6": 6.0}
