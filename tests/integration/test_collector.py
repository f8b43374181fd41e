"""The collector with drivers that misbehave, over a real intake and outbox."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from edge.collector import REFUSED_S, Collector, DeviceState
from edge.intake import Intake
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.report import ReportSection
from edge.settings import Device, OutboxSection
from protocols.driver import Delivery, PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus import driver_type as modbus_type
from protocols.testing.rig import deaf_server
from shared.batch import decode
from shared.columns import Columns, concatenate
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Kind, Point, PointSet
from shared.quality import REASON_MASK, Reason, bad
from tests.integration.outbox_kit import ALL, START_US, TurnedClock, gaps_in, no_open_outbox
from tests.servers.fake_driver import FakeDevice

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

DEADLINE_S = 20.0


@dataclass
class Site:
    """Devices, collector, intake and outbox, with a clock that is turned by hand."""

    collector: Collector
    intake: Intake
    outbox: Outbox
    clock: TurnedClock
    ready: asyncio.Event

    async def readings(self) -> Columns:
        await self.intake.flushed()
        found = await self.outbox.fetch(0, ALL, 10_000)
        return concatenate([decode(one.body) for one in found if one.kind is Kind.READINGS])

    async def gaps(self) -> list[tuple[str, int | None]]:
        await self.intake.flushed()
        return [(one["reason"], one["missed"]) for one in await gaps_in(self.outbox)]


@asynccontextmanager
async def collecting(
    folder: Path,
    devices: Callable[[TurnedClock], Sequence[Device]],
    section: OutboxSection | None = None,
) -> AsyncIterator[Site]:
    clock = TurnedClock()
    section = section or OutboxSection(commit_window_s=0.02)
    configured = tuple(devices(clock))
    points = PointSet(tuple(one.point for device in configured for one in device.points))
    outbox, _ = await open_outbox(folder, points, clock, section)
    await outbox.begin(1)
    intake = Intake(outbox, section, clock)
    collector = Collector(configured, intake, clock, seed=1)
    ready = asyncio.Event()
    try:
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(intake.run()),
                group.create_task(collector.run(ready.set)),
            ]
            yield Site(collector, intake, outbox, clock, ready)
            for task in tasks:
                task.cancel()
    finally:
        await outbox.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - counters of a fake have no event
            await asyncio.sleep(0.001)


def steps(*several: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Take one step a call, and the last one for ever."""
    left = list(several)

    async def step() -> None:
        await (left.pop(0) if len(left) > 1 else left[0])()

    return step


async def at_once() -> None:
    """Answer without delay."""


async def for_ever() -> None:
    await asyncio.Event().wait()


async def lost() -> NoReturn:
    raise LinkLost("no answer within 2 s")


async def refused() -> NoReturn:
    raise Refused("the device wants a password")


async def wrong() -> NoReturn:
    raise OptionsWrong("unit 300 cannot be")


async def defect() -> NoReturn:
    raise ZeroDivisionError("a defect of the driver")


async def test_a_device_is_polled_once_an_interval(tmp_path: Path) -> None:
    device = FakeDevice()

    def devices(clock: TurnedClock) -> list[Device]:
        async def one_interval() -> None:
            clock.at_s += 1.0

        device.reading = steps(*[one_interval] * 20, for_ever)
        return [device.device("a", interval_s=1.0)]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: device.polls == 21)
        columns = await site.readings()
        assert columns.value[:20].tolist() == [float(nth + 1) for nth in range(20)]
        assert (site.intake.dues.polled, site.intake.dues.missed) == (40, 0)
        assert await site.gaps() == []
        assert (device.connections, device.disconnections) == (1, 0)
    assert device.disconnections == 1


async def test_a_poll_that_takes_too_long_costs_the_polls_it_overran(tmp_path: Path) -> None:
    device = FakeDevice()

    def devices(clock: TurnedClock) -> list[Device]:
        def takes(intervals: float) -> Callable[[], Awaitable[None]]:
            async def step() -> None:
                clock.at_s += intervals

            return step

        device.reading = steps(takes(1.0), takes(3.5), takes(0.5), for_ever)
        return [device.device("a", interval_s=1.0)]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: device.polls == 4)
        assert await site.gaps() == [("overrun", 2)]
        assert (site.intake.dues.polled, site.intake.dues.missed) == (6, 4)


async def test_a_lost_link_is_told_once_tried_again_and_declared(tmp_path: Path) -> None:
    device = FakeDevice(
        connecting=steps(at_once, lost, lost, at_once), reading=steps(at_once, lost, at_once)
    )
    async with collecting(tmp_path, lambda _: [device.device("a")]) as site:
        await until(lambda: device.connections == 4 and device.polls >= 4)
        columns = await site.readings()
        bads = columns.series[columns.quality & REASON_MASK == Reason.LINK_DOWN]
        assert sorted(bads.tolist()) == [0, 1]
        assert await site.gaps() == [("device_down", 1)]
        (task,) = site.collector.tasks
        assert (task.state, task.problem) == (DeviceState.READING, "")


@pytest.mark.parametrize("seed", range(8))
async def test_every_poll_that_was_due_was_made_or_is_counted_as_missed(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    device, interval_s, halted = FakeDevice(points=1), 0.01, asyncio.Event()

    def devices(clock: TurnedClock) -> list[Device]:
        async def step() -> None:
            if device.polls >= 40:
                halted.set()
                await for_ever()
            clock.at_s += interval_s * rng.choice((0.0, 0.3, 1.0, 1.0, 4.2))
            if rng.random() < 0.3:
                await lost()

        device.connecting = device.reading = step
        return [device.device("a", interval_s=interval_s)]

    async with collecting(tmp_path, devices) as site:
        (task,) = site.collector.tasks
        await halted.wait()
        await site.intake.flushed()
        dues, holes = site.intake.dues, site.intake.holes
        # Each interval up to now is a poll, or missed; one may be under way.
        bads = np.count_nonzero((await site.readings()).quality != 0)
        slots = round(task._due_s / interval_s)
        assert slots - 1 <= dues.polled - bads + dues.missed <= slots
        told = sum(gap["missed"] for gap in await gaps_in(site.outbox))
        assert told + holes.missed[holes.since > 0].sum() == dues.missed


async def test_a_device_that_fell_silent_shows_no_value_of_before_as_live(tmp_path: Path) -> None:
    device = FakeDevice(connecting=steps(at_once, for_ever), reading=steps(at_once, lost))
    async with collecting(tmp_path, lambda _: [device.device("a")]) as site:
        await until(lambda: site.collector.tasks[0].state is DeviceState.DOWN)
        shown = site.collector.live.values("a")
        assert [one.quality for one in shown] == [bad(Reason.LINK_DOWN)] * 2
        one = site.collector.live.value("a", "a/p1")
        assert one is not None
        assert (one.quality, one.observed_at) == (shown[1].quality, shown[1].observed_at)
        assert np.isnan(one.value)
        assert site.collector.live.value("a", "a/p9") is None


async def test_a_device_that_never_answers_does_not_slow_the_others(tmp_path: Path) -> None:
    dead, refusing = FakeDevice(connecting=for_ever), FakeDevice(connecting=refused)
    sick, live = FakeDevice(reading=defect), FakeDevice()

    def devices(_: TurnedClock) -> list[Device]:
        named = {"dead": dead, "refusing": refusing, "sick": sick, "live": live}
        return [one.device(name, interval_s=0.001) for name, one in named.items()]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: live.polls >= 20 and sick.connections >= 3)
        columns = await site.readings()
        assert np.count_nonzero(columns.quality == 0) >= 38
        assert set(columns.series[columns.quality == 0].tolist()) == {6, 7}
        assert [task.state for task in site.collector.tasks] == [
            DeviceState.CONNECTING,
            DeviceState.REFUSED,
            DeviceState.DOWN,
            DeviceState.READING,
        ]
        assert "a defect of the driver" in site.collector.tasks[2].problem
        assert not site.ready.is_set()


async def test_the_site_is_ready_when_each_device_was_tried_once(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def after_a_while() -> None:
        await gate.wait()
        await lost()

    slow, live = FakeDevice(connecting=after_a_while), FakeDevice()

    def devices(_: TurnedClock) -> list[Device]:
        return [slow.device("slow"), live.device("live")]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: live.polls > 0)
        assert not site.ready.is_set()
        gate.set()
        await site.ready.wait()


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (refused, DeviceState.REFUSED, Reason.REFUSED),
        (wrong, DeviceState.WRONG, Reason.OPTIONS_WRONG),
    ],
)
async def test_a_device_that_says_no_is_asked_again_late_and_its_points_say_why(
    tmp_path: Path, fault: Callable[[], Awaitable[None]], state: DeviceState, reason: Reason
) -> None:
    device = FakeDevice(connecting=fault)
    async with collecting(tmp_path, lambda _: [device.device("a")]) as site:
        await site.ready.wait()
        (task,) = site.collector.tasks
        assert (task.state, device.connections) == (state, 1)
        assert task.problem in ("the device wants a password", "unit 300 cannot be")
        assert (await site.readings()).quality.tolist() == [bad(reason)] * 2
        assert 0.8 * REFUSED_S <= await task._session() <= 1.2 * REFUSED_S
        # It is told once, however often it is tried.
        assert len(await site.readings()) == 2


async def test_tries_to_connect_are_spaced_and_start_over_after_an_answer(tmp_path: Path) -> None:
    device = FakeDevice(connecting=lost)
    async with collecting(tmp_path, lambda _: [device.device("a", interval_s=0.5)]) as site:
        await site.ready.wait()
        (task,) = site.collector.tasks
        waits = [await task._session() for _ in range(12)]
        assert all(0.25 <= wait <= 30.0 for wait in waits)
        assert max(waits[5:]) > 4.0
        device.connecting, device.reading = at_once, steps(at_once, lost)
        assert await task._session() <= 0.5


async def test_a_device_that_takes_connections_and_closes_them_is_tried_ever_more_seldom(
    tmp_path: Path,
) -> None:
    points = (PointSource(Point("a"), ModbusPointOptions(register=0)),)
    async with deaf_server(slams=True) as port:
        options = ModbusDeviceOptions(host="127.0.0.1", port=port)
        device = Device("a", modbus_type(), 0.02, options, points)
        async with collecting(tmp_path, lambda _: [device]) as site:
            await site.ready.wait()
            (task,) = site.collector.tasks
            waits = [await task._session() for _ in range(12)]

    assert all(0.01 <= wait <= 30.0 for wait in waits)
    assert max(waits[8:]) > 1.0


@dataclass
class Pushed:
    """A device that pushes numbered deliveries, each until it is done."""

    undone: list[int]
    done: list[int]

    async def push(self, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        for number in list(self.undone):
            if number.to_bytes(2, "big") in known:
                self.acknowledge(number)
                continue
            yield Delivery(
                Columns.of([0], [START_US + 1_000 * number], [float(number)], [0]),
                (number.to_bytes(2, "big"),),
                lambda number=number: self.acknowledge(number),  # type: ignore[misc]  # bound now
            )
        raise LinkLost("the broker went away")

    def acknowledge(self, number: int) -> None:
        self.undone.remove(number)
        self.done.append(number)


async def test_what_a_device_pushed_is_committed_before_it_is_asked_again(tmp_path: Path) -> None:
    pushed = Pushed(list(range(5)), [])
    device = FakeDevice(points=1, pushing=pushed.push)
    slow = OutboxSection(commit_window_s=60)
    async with collecting(tmp_path, lambda _: [device.device("a")], slow) as site:
        await until(lambda: len(device.known) >= 2)
        assert device.known[0] == ()
        assert device.known[1] == tuple(number.to_bytes(2, "big") for number in range(5))
        assert pushed.done == list(range(5))
        columns = await site.readings()
        assert columns.value[columns.quality == 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_a_delivery_whose_acknowledgement_was_lost_is_not_committed_twice(
    tmp_path: Path,
) -> None:
    pushed = Pushed(list(range(3)), [])
    lost_acknowledgements = iter([0, 1, 2])
    acknowledge = pushed.acknowledge

    def sometimes(number: int) -> None:
        if next(lost_acknowledgements, None) is None:
            acknowledge(number)

    pushed.acknowledge = sometimes  # type: ignore[method-assign]  # the link is lost before it
    device = FakeDevice(points=1, pushing=pushed.push)
    async with collecting(tmp_path, lambda _: [device.device("a")]) as site:
        await until(lambda: not pushed.undone)
        columns = await site.readings()
        assert columns.value[columns.quality == 0].tolist() == [0.0, 1.0, 2.0]
        assert pushed.done == [0, 1, 2]


async def test_a_subscription_that_ends_by_itself_is_a_lost_link(tmp_path: Path) -> None:
    async def ends(known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        at_us = START_US + 1_000 * len(device.known)
        yield Delivery(Columns.of([0], [at_us], [1.0], [0]), (), lambda: None)

    device = FakeDevice(points=1, pushing=ends)
    async with collecting(tmp_path, lambda _: [device.device("a")]) as site:
        await until(lambda: len(device.known) >= 3)
        assert ("device_down", None) in await site.gaps()


def reported(device: Device, **policy: Any) -> Device:
    return replace(device, reports=(ReportSection(**policy),) * len(device.points))


async def test_what_a_report_policy_suppresses_is_counted_and_is_no_loss(tmp_path: Path) -> None:
    device = FakeDevice()

    def devices(clock: TurnedClock) -> list[Device]:
        async def one_interval() -> None:
            clock.at_s += 1.0

        device.reading = steps(*[one_interval] * 20, for_ever)
        return [reported(device.device("a", interval_s=1.0), deadband=4.5)]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: device.polls == 21)
        columns = await site.readings()
        assert columns.value[columns.series == 0].tolist() == [1.0, 6.0, 11.0, 16.0]
        dues = site.intake.dues
        assert (dues.polled, dues.suppressed, dues.missed) == (40, 32, 0)
        assert await site.gaps() == []
        assert site.outbox.index.ledger().produced == 8


async def test_a_hole_begins_at_the_last_poll_not_at_the_last_report(tmp_path: Path) -> None:
    device = FakeDevice(points=1)
    polled: list[int] = []

    def devices(clock: TurnedClock) -> list[Device]:
        async def answered() -> None:
            clock.at_s += 0.01
            clock.at_us += 1_000_000
            device.at_us = clock.at_us - 1_000
            polled.append(clock.at_us)

        device.reading = steps(*[answered] * 5, lost, answered, for_ever)
        return [reported(device.device("a"), deadband=100)]

    async with collecting(tmp_path, devices) as site:
        await until(lambda: device.polls == 8)
        await site.intake.flushed()
        (gap,) = await gaps_in(site.outbox)
        assert gap["from_us"] == polled[4]
        columns = await site.readings()
        good = columns.observed_at[columns.quality == 0]
        assert good.tolist() == [polled[0], polled[5]]
