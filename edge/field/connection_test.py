"""The connection test: network, session, identity, test read, in this order, until one fails.

Each step says what it found, how long it took and, where it failed, what is likely behind it and
what to try. The test runs on a connection of its own, beside the one that runs.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from edge.field.networks import host_of, where_is
from edge.field.reading import PUSHED_S, READ_S, read_points
from edge.field.shown import Shown
from edge.field.target import Target
from edge.field.trouble import REASONS, Trouble, refused_or_lost, trouble, unreached
from protocols.driver import Driver, Probing
from shared.clock import Clock, SystemClock
from shared.errors import DriverError, LinkLost
from shared.logs import get
from shared.quality import reason_of

CLOSE_S: Final = 5.0

_log = get("field")


class Step(StrEnum):
    """What is tested, in this order."""

    NETWORK = "network"
    SESSION = "session"
    IDENTITY = "identity"
    READ = "read"


LIMITS_S: Final[Mapping[Step, float]] = {
    Step.NETWORK: 15.0,
    Step.SESSION: 30.0,
    Step.IDENTITY: 15.0,
    Step.READ: READ_S + PUSHED_S,
}


class Outcome(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step; `facts` is what a device says of itself, `values` are the points that were read."""

    step: Step
    outcome: Outcome
    text: str
    took_ms: float = 0.0
    trouble: Trouble | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    values: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """All four steps."""

    steps: tuple[StepReport, ...]

    @property
    def values(self) -> tuple[Shown, ...]:
        """Each point that was read."""
        return self.steps[-1].values

    @property
    def is_good(self) -> bool:
        """Tell whether no step failed."""
        return all(one.outcome is not Outcome.FAILED for one in self.steps)


Told = Callable[[StepReport], None]


async def check_connection(
    target: Target, told: Told = lambda _: None, clock: Clock | None = None
) -> ConnectionReport:
    """Test the way to a device; `told` hears of each step as it ends.

    Bounded in time; raises nothing but a cancellation, which closes what is open.
    """
    course = _Course(target, told, clock or SystemClock())
    await course.run()
    return ConnectionReport(tuple(course.steps))


class _Stopped(Exception):
    """A step failed: those after it are not tried."""


class _Skipped(Exception):
    """A step has nothing to do; the text says why."""


class _Failed(Exception):
    """A step failed, and it is known why."""

    def __init__(self, why: Trouble) -> None:
        self.trouble = why
        super().__init__(why.text)


Found = str | tuple[str, Mapping[str, str]]


class _Course:
    def __init__(self, target: Target, told: Told, clock: Clock) -> None:
        self._target = target
        self._told = told
        self._clock = clock
        self._is_own: bool | None = None
        self._is_silent = False
        self.steps: list[StepReport] = []
        self._values: list[Shown] = []

    async def run(self) -> None:
        driver = self._target.beside()
        try:
            async with AsyncExitStack() as connection:
                await self._step(Step.NETWORK, self._network(driver))
                await self._step(Step.SESSION, self._session(driver, connection))
                await self._step(Step.IDENTITY, self._identity(driver))
                await self._step(Step.READ, self._read(driver, connection))
        except _Stopped:
            for step in list(Step)[len(self.steps) :]:
                text = "not tried: the step before failed"
                self._note(StepReport(step, Outcome.SKIPPED, text))

    async def _step(self, step: Step, work: Coroutine[Any, Any, Found]) -> None:
        begun_s = self._clock.monotonic_s()

        def note(outcome: Outcome, found: Found, why: Trouble | None = None) -> None:
            text, facts = (found, {}) if isinstance(found, str) else found
            took_ms = (self._clock.monotonic_s() - begun_s) * 1_000
            values = tuple(self._values) if step is Step.READ else ()
            self._note(StepReport(step, outcome, text, took_ms, why, facts, values))

        try:
            async with asyncio.timeout(LIMITS_S[step]):
                note(Outcome.OK, await work)
        except _Skipped as error:
            note(Outcome.SKIPPED, str(error))
        except Exception as error:
            why = self._trouble(step, error)
            note(Outcome.FAILED, why.text, why)
            raise _Stopped from error

    def _trouble(self, step: Step, error: Exception) -> Trouble:
        if isinstance(error, _Failed):
            return error.trouble
        if isinstance(error, TimeoutError):
            return trouble("too_slow", f"not done within {LIMITS_S[step]:g} s")
        if not isinstance(error, DriverError):
            _log.exception("driver failed", driver=self._target.driver.name)
            return trouble("driver_defect", f"{type(error).__name__}: {error}")
        # A driver that cannot try the address alone finds out as it connects.
        is_unreached = step is Step.SESSION and self.steps[0].outcome is Outcome.SKIPPED
        if step is Step.NETWORK or (is_unreached and isinstance(error, LinkLost)):
            return unreached(error, is_own=self._is_own)
        if step is Step.READ and self._is_silent and isinstance(error, LinkLost):
            return trouble("identity_silent", str(error))
        return refused_or_lost(step.value, error)

    async def _network(self, driver: Driver) -> Found:
        place = ""
        host = host_of(self._target.options)
        if host is not None:
            try:
                self._is_own, place = await where_is(host)
            except (OSError, UnicodeError) as error:
                text = f"the name {host!r} is not known here"
                raise _Failed(trouble("name_unknown", text)) from error
        if not isinstance(driver, Probing):
            raise _Skipped("; ".join(filter(None, [place, "tried with the session"])))
        try:
            reached = await driver.reach()
        except LinkLost as error:
            why = unreached(error, is_own=self._is_own)
            text = f"{why.text}; {place}" if place else why.text
            raise _Failed(trouble(why.code, text)) from error
        return "; ".join(filter(None, [f"{reached} answers", place]))

    async def _session(self, driver: Driver, connection: AsyncExitStack) -> Found:
        await driver.__aenter__()
        connection.push_async_callback(_closed, driver)
        return "connected"

    async def _identity(self, driver: Driver) -> Found:
        if not isinstance(driver, Probing):
            raise _Skipped("this protocol has no question for it")
        try:
            facts = await driver.identify()
        except LinkLost as error:
            if not self._target.points:
                raise
            self._is_silent = True
            raise _Skipped("no answer: many devices do not know the question") from error
        if not facts:
            raise _Skipped("the device does not tell who it is")
        return ", ".join(f"{name}: {one}" for name, one in facts.items()), facts

    async def _read(self, driver: Driver, connection: AsyncExitStack) -> Found:
        if not self._target.points:
            raise _Skipped("no points are given: name one, or browse the device")
        if self._is_silent:  # what was asked and not answered has cost the connection
            await connection.aclose()
            driver = self._target.beside()
            await self._session(driver, connection)
        self._values = await read_points(driver, self._target)
        good = [one for one in self._values if not one.is_bad]
        text = f"{len(good)} of {len(self._values)} points have values"
        if good:
            return text
        reason = reason_of(self._values[0].quality)
        hint = REASONS.get(reason, self._values[0].words)
        raise _Failed(trouble("no_point_readable", f"{text}; {hint}"))

    def _note(self, report: StepReport) -> None:
        self.steps.append(report)
        self._told(report)


async def _closed(driver: Driver) -> None:
    """Leave the device, which may hang as everything else may."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await driver.__aexit__(None, None, None)
    except TimeoutError:
        _log.warning("a device did not let go in time")
