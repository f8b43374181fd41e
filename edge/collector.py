"""The collector: one task a device that reads it on schedule, and copes when it is silent.

It retries, spaces the tries and keeps the schedule, once for all drivers; what it reads goes to the
intake. A dead device costs its own task a little time and no other device anything.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.aggregate import Aggregator
from edge.answers import Answer, Silence
from edge.gate import Gate
from edge.holes import GapReason
from edge.intake import Intake
from edge.live import LiveValues
from edge.report import Shaper
from edge.settings import Device
from protocols.driver import Driver, Subscribing
from shared.backoff import Backoff
from shared.clock import Clock
from shared.columns import Columns
from shared.errors import LinkLost, OptionsWrong, Refused, SpineError
from shared.logs import get
from shared.model import PointSet
from shared.quality import Reason
from shared.rollups import Rollups

REFUSED_S: Final = 60.0
"""A device that answers and says no is asked again this much later."""

REPORT_S: Final = 1.0
"""How often it is looked what time alone makes due to be reported."""

STOP_S: Final = 10.0
"""How long a device that is taken out may take to close its connection."""

SWITCH_S: Final = 30.0
"""How long a change waits until what was read before it is committed."""

_log = get("collector")


class ChangeFailed(SpineError):
    """The devices could not be changed; those of before go on."""


class DeviceState(StrEnum):
    """How a device is doing, for people and /readyz."""

    CONNECTING = "connecting"
    READING = "reading"
    DOWN = "down"
    REFUSED = "refused"
    WRONG = "options wrong"


@dataclass(slots=True)
class DeviceTask:
    """The task of one device: connect, read, tell of silence, try again."""

    device: Device
    series: NDArray[np.int32]
    intake: Intake
    clock: Clock
    rng: random.Random = field(default_factory=random.Random)
    gate: Gate = field(default_factory=Gate)
    """Whoever brings something by its series passes here: `series` changes while it is closed."""
    live: LiveValues = field(default_factory=LiveValues)
    state: DeviceState = DeviceState.CONNECTING
    problem: str = ""
    errors: int = 0
    """How often, since the start, a connection was lost or could not be made."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    driver: Driver | None = None
    """The connection that is open now; what is written goes over it, between reads."""
    shaper: Shaper = field(init=False)
    aggregator: Aggregator = field(init=False)
    _backoff: Backoff = field(init=False)
    _due_s: float = 0.0
    _silent: bool = False
    _is_polling: bool = False

    def __post_init__(self) -> None:
        self.shaper = Shaper(self.device.reports)
        policies = self.device.aggregates or (None,) * len(self.device.points)
        self.aggregator = Aggregator(policies, self.device.holds_us())
        floor_s = min(1.0, self.device.interval_s)
        self._backoff = Backoff(base_s=floor_s, cap_s=30.0, floor_s=floor_s / 2, rng=self.rng)

    async def run(self) -> None:
        """Read the device for ever."""
        self._due_s = self.clock.monotonic_s()
        try:
            while True:
                pause_s = await self._session()
                await asyncio.sleep(pause_s)
        finally:
            self.answered.set()

    async def stopped(self) -> None:
        """Tell, after `run` was cancelled, of the polls that were due and are not made any more."""
        await self.close_windows()
        self.intake.suppressed(self.series[:0], self.shaper.reset())
        missed = int(self._is_polling)
        late_s = self.clock.monotonic_s() - self._due_s
        if late_s >= 0 and not self.device.is_pushing:
            missed += 1 + int(late_s // self.device.interval_s)
        if missed:
            await self._note_missed(missed, GapReason.STOPPED)

    async def _session(self) -> float:
        """Read over one connection until it is lost; tell how long to wait before the next."""
        self._is_polling = False
        try:
            driver = self.device.driver.make(self.device.options)
            async with driver:
                self.driver = driver
                await self._read(driver)
        except OptionsWrong as error:
            await self._fell_silent(DeviceState.WRONG, Reason.OPTIONS_WRONG, error)
            return REFUSED_S
        except Refused as error:
            await self._fell_silent(DeviceState.REFUSED, Reason.REFUSED, error)
            return REFUSED_S * self.rng.uniform(0.8, 1.2)
        except LinkLost as error:
            await self._fell_silent(DeviceState.DOWN, Reason.LINK_DOWN, error)
        except Exception as error:  # noqa: BLE001 - a defect of one driver must not stop the others
            _log.exception("driver failed", device=self.device.name)
            await self._fell_silent(DeviceState.DOWN, Reason.LINK_DOWN, error)
        finally:
            self.driver = None
        return self._backoff.next_s()

    async def _read(self, driver: Driver) -> None:
        plan = driver.plan(self.device.points)
        if isinstance(driver, Subscribing) and self.device.is_pushing:
            await self._take_pushes(driver, plan)
        else:
            await self._poll(driver, plan)

    async def _poll(self, driver: Driver, plan: Any) -> None:
        while True:
            missed = await self._wait_until_due()
            if missed:
                await self._note_missed(missed)
            self._is_polling = True
            columns = await driver.read(plan)
            await self._bring(Answer(self.device.name, columns))
            # Only now: a poll whose answer did not get to the intake was not made.
            self._is_polling = False

    async def _take_pushes(self, driver: Subscribing, plan: Any) -> None:
        # What the last connection brought is committed first: then `known` is complete, and a
        # delivery that comes again is recognised.
        await self.intake.flushed()
        known = self.intake.known_tokens(self.device.name)
        async for delivery in driver.subscribe(plan, known):
            await self._bring(
                Answer(
                    self.device.name,
                    delivery.columns,
                    delivery.tokens,
                    self.device.driver.tokens_kept,
                    delivery.done,
                )
            )
        raise LinkLost("the device ended its subscription")

    async def _bring(self, answer: Answer) -> None:
        """Bring what the device gave; the series of `answer` are those of its own points."""
        if self.state is not DeviceState.READING:
            self._speaks_again()
        async with self.gate.passing():
            if self.intake.is_holding:
                # Until the clock is set nothing can be made of times: all is kept as it is.
                await self.intake.answer(replace(answer, columns=self._named(answer.columns)))
                return
            self.live.take(self.device, answer.columns)
            if self.shaper.is_plain and self.aggregator.is_plain:
                await self.intake.answer(replace(answer, columns=self._named(answer.columns)))
                return
            now_us = self.clock.now_us()
            # Rollups tell of every reading, also of those that are not worth to be reported.
            rollups = self.aggregator.take(answer.columns, now_us)
            shaped = self.shaper.shape(answer.columns, now_us)
            if not self.shaper.is_plain:
                self.intake.suppressed(self.series[answer.columns.series], shaped.suppressed)
            await self._give(replace(answer, columns=shaped.columns), rollups)

    async def _give(self, answer: Answer, rollups: Rollups) -> None:
        kept, aggregated = self.aggregator.parted(answer.columns)
        if len(rollups):
            rollups["series"] = self.series[rollups["series"]]
        named = replace(
            answer,
            columns=self._named(kept),
            aggregated=self._named(aggregated),
            rollups=rollups,
        )
        await self.intake.answer(named)

    async def report_due(self) -> None:
        """Bring what time alone makes due: held values, points that fell silent, rollups."""
        async with self.gate.passing():
            if self.intake.is_holding:
                return
            now_us = self.clock.now_us()
            due, rollups = self.shaper.due(now_us), self.aggregator.due(now_us)
            await self._give_more(due, rollups)

    async def close_windows(self) -> None:
        """Bring what is known of the windows that are open: the device is read no more."""
        async with self.gate.passing():
            rollups = self.aggregator.close(self.clock.now_us())
            await self._give_more(Columns.empty(), rollups)

    async def _give_more(self, columns: Columns, rollups: Rollups) -> None:
        if len(columns) or len(rollups):
            await self._give(Answer(self.device.name, columns), rollups)

    def _named(self, columns: Columns) -> Columns:
        return columns.with_series(self.series[columns.series])

    async def _wait_until_due(self) -> int:
        """Wait for the next poll's time; tell how many times went by unused."""
        interval_s = self.device.interval_s
        late_s = self.clock.monotonic_s() - self._due_s
        missed = max(0, int(late_s // interval_s))
        self._due_s += missed * interval_s
        wait_s = self._due_s - self.clock.monotonic_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._due_s += interval_s
        return missed

    async def _note_missed(self, missed: int, reason: GapReason = GapReason.OVERRUN) -> None:
        reason = GapReason.DEVICE_DOWN if self._silent else reason
        async with self.gate.passing():
            await self.intake.silence(Silence(self.device.name, self.series, reason, missed))

    async def _fell_silent(self, state: DeviceState, reason: Reason, error: Exception) -> None:
        if state is not self.state:
            _log.warning(
                "device does not answer",
                device=self.device.name,
                state=state.value,
                error=str(error),
            )
        self.problem = str(error)
        self.state = state
        self.errors += 1
        # A try to connect is no poll: the polls that it cost are counted when they are overdue.
        missed = None if self.device.is_pushing else int(self._is_polling)
        self.intake.suppressed(self.series[:0], self.shaper.reset())
        told = None if self._silent else reason
        self._silent = True
        self.answered.set()
        self.live.silence(self.device, reason, self.clock.now_us())
        async with self.gate.passing():
            await self._give_more(Columns.empty(), self.aggregator.silence(self.clock.now_us()))
            hole = Silence(self.device.name, self.series, GapReason.DEVICE_DOWN, missed, told)
            await self.intake.silence(hole)

    def _speaks_again(self) -> None:
        if self._silent:
            _log.info("device answers again", device=self.device.name)
        self.state = DeviceState.READING
        self.problem = ""
        self._silent = False
        self._backoff.reset()
        self.answered.set()


class Collector:
    """All devices of the gateway."""

    def __init__(
        self, devices: Sequence[Device], intake: Intake, clock: Clock, seed: int | None = None
    ) -> None:
        """Number the devices' points in the order of the point set, and make a task for each."""
        self._rng = random.Random(seed)  # noqa: S311 - spreads polls in time, keeps no secret
        self._intake = intake
        self._clock = clock
        self._gate = Gate()
        self.live = LiveValues(clock)
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks = self._numbered(devices, {})

    @property
    def tasks(self) -> list[DeviceTask]:
        """List the tasks, in the order of the devices."""
        return list(self._tasks.values())

    def task(self, name: str) -> DeviceTask | None:
        """Give the task of a device, if there is one of this name."""
        return self._tasks.get(name)

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Read all devices for ever; `on_ready` is called when each was tried once."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._start(self._tasks.values())
                group.create_task(self._report(), name="report")
                for task in self.tasks:
                    await task.answered.wait()
                on_ready()
        finally:
            self._group = None

    async def close_windows(self) -> None:
        """Bring the open windows of all devices, once `run` has ended."""
        for task in self.tasks:
            await task.close_windows()

    async def change(self, devices: Sequence[Device]) -> list[str]:
        """Read these devices from now on; only those that are other ones than before restart.

        What was read before is committed under the point set of before. Tells the names of the
        devices that were started. One change at a time. Raises `ChangeFailed` with nothing
        changed; it is not to be cancelled.
        """
        before = self._tasks
        kept = {
            one.name: before[one.name]
            for one in devices
            if one.name in before and is_same(before[one.name].device, one)
        }
        leaving = [task for name, task in before.items() if name not in kept]
        await self._stop(leaving)
        try:
            async with self._gate_closed():
                await self._intake.repoint(point_set_of(devices))
                self._tasks = self._numbered(devices, kept)
        except (SpineError, TimeoutError, OSError) as error:
            series = {task.device.name: task.series for task in before.values()}
            again = {task.device.name: self._task(task.device) for task in leaving}
            self._tasks = {name: again.get(name, task) for name, task in before.items()}
            for name, task in again.items():
                task.series = series[name]
            self._start(again.values())
            raise ChangeFailed(str(error) or "the outbox takes no more; try again") from error
        new = [task for name, task in self._tasks.items() if name not in kept]
        self.live.keep(self._tasks)
        self._start(new)
        return [task.device.name for task in new]

    @asynccontextmanager
    async def _gate_closed(self) -> AsyncIterator[None]:
        """Hold everybody off who brings something, when all that was brought is committed."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(SWITCH_S):
                await stack.enter_async_context(self._gate.closed())
                await self._intake.flushed()
            yield

    async def _stop(self, leaving: Sequence[DeviceTask]) -> None:
        running = [self._running.pop(task.device.name, None) for task in leaving]
        ending = [one for one in running if one is not None]
        for one in ending:
            one.cancel()
        if ending:
            _, late = await asyncio.wait(ending, timeout=STOP_S)
            for one in late:
                _log.error("a device does not close its connection", task=one.get_name())
        for task in leaving:
            await task.stopped()

    def _numbered(
        self, devices: Sequence[Device], kept: Mapping[str, DeviceTask]
    ) -> dict[str, DeviceTask]:
        tasks = {one.name: kept.get(one.name) or self._task(one) for one in devices}
        for task, series in zip(tasks.values(), _series_of(devices), strict=True):
            task.series = series
        return tasks

    def _task(self, device: Device) -> DeviceTask:
        none = np.empty(0, np.int32)
        return DeviceTask(device, none, self._intake, self._clock, self._rng, self._gate, self.live)

    def _start(self, tasks: Iterable[DeviceTask]) -> None:
        if self._group is None:
            return  # not running: `run` starts them all
        for task in tasks:
            name = task.device.name
            running = self._group.create_task(task.run(), name=f"device {name}")
            self._running[name] = running

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            for task in self.tasks:
                if not (task.shaper.is_plain and task.aggregator.is_plain):
                    await task.report_due()


def is_same(one: Device, other: Device) -> bool:
    """Tell whether two configurations of a device say the same."""
    # The driver's type is made anew at each look-up; its name says which it is.
    return one.driver.name == other.driver.name and replace(one, driver=other.driver) == other


def point_set_of(devices: Sequence[Device]) -> PointSet:
    """List the points of devices in the order in which the collector numbers them."""
    return PointSet(tuple(one.point for device in devices for one in device.points))


def _series_of(devices: Sequence[Device]) -> Iterator[NDArray[np.int32]]:
    start = 0
    for device in devices:
        yield np.arange(start, start + len(device.points), dtype=np.int32)
        start += len(device.points)
