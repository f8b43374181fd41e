"""Work that takes a while and goes on without the one who asked: progress, results, cancel.

A job's results come as they are found and can be read from any place on; it survives that its
client goes away, and is forgotten some time after it ended.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from shared.clock import Clock
from shared.errors import SpineError
from shared.logs import get

MOST_RESULTS: Final = 2_000
MOST_KEPT: Final = 20
KEPT_S: Final = 3_600.0
AT_ONCE: Final[Mapping[str, int]] = {"scan": 1, "test": 4}
"""Jobs of a kind that run at once; one of any other."""

LASTS_S: Final = 1_800.0

_log = get("field")


class JobsBusy(SpineError):
    """A job of this kind is under way."""


class JobState(StrEnum):
    """How a job is doing."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Job:
    """One piece of work; `results` holds at most 2,000, `found` counts all."""

    number: int
    kind: str
    title: str
    started_us: int
    state: JobState = JobState.RUNNING
    progress: float = 0.0
    found: int = 0
    results: list[Any] = field(default_factory=list)
    problem: str = ""
    ended_us: int | None = None
    ended_s: float = 0.0
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)

    def advance(self, progress: float) -> None:
        """Note the progress, from 0 to 1; it never goes back."""
        self.progress = max(self.progress, min(1.0, progress))
        self._stirred.set()

    def add(self, result: Any) -> None:
        """Note a result."""
        self.found += 1
        if len(self.results) < MOST_RESULTS:
            self.results.append(result)
        self._stirred.set()

    async def stirred(self, timeout_s: float) -> None:
        """Wait until something happened, or the time is over."""
        if self.state is JobState.RUNNING:
            self._stirred.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    def end(self, state: JobState, problem: str = "") -> None:
        """Note how it ended."""
        self.state, self.problem = state, problem
        self._stirred.set()


Work = Callable[[Job], Coroutine[Any, Any, None]]


class Jobs:
    """The jobs that run, and those that ended not long ago; leaving it ends them."""

    def __init__(self, clock: Clock, at_once: Mapping[str, int] = AT_ONCE) -> None:
        """Let so many of each kind run at once."""
        self._clock = clock
        self._at_once = at_once
        self._jobs: dict[int, Job] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._last = 0
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        """Be ready."""
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what runs."""
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def start(self, kind: str, title: str, work: Work) -> Job:
        """Start a job; raises `JobsBusy` where as many of its kind run as may."""
        self._forget()
        running = [one for one in self._jobs.values() if one.state is JobState.RUNNING]
        if sum(one.kind == kind for one in running) >= self._at_once.get(kind, 1):
            raise JobsBusy(
                f"{kind}: as many as may are under way; wait for one to end, or cancel it"
            )
        self._last += 1
        job = Job(self._last, kind, title, self._clock.now_us())
        self._jobs[job.number] = job
        task = self._running[job.number] = self._tasks.create_task(self._run(job, work))
        task.add_done_callback(lambda _: self._ended(job))
        return job

    def find(self, number: int) -> Job | None:
        """Find a job that runs, or ended not long ago."""
        self._forget()
        return self._jobs.get(number)

    def list(self) -> Sequence[Job]:
        """List the jobs, newest first."""
        self._forget()
        return sorted(self._jobs.values(), key=lambda one: -one.number)

    async def cancel(self, number: int) -> None:
        """End a job and wait until it has closed what it opened."""
        task = self._running.get(number)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, job: Job, work: Work) -> None:
        try:
            async with asyncio.timeout(LASTS_S):
                await work(job)
            job.advance(1.0)
            job.end(JobState.DONE)
        except TimeoutError:
            job.end(JobState.FAILED, f"not done within {LASTS_S:g} s: look for less at once")
        except SpineError as error:
            job.end(JobState.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - a defect of one driver ends one job
            _log.exception("a job failed", kind=job.kind, title=job.title)
            job.end(JobState.FAILED, f"a defect: {type(error).__name__}: {error}")

    def _ended(self, job: Job) -> None:
        if job.state is JobState.RUNNING:  # cancelled, perhaps before it began
            job.end(JobState.CANCELLED)
        job.ended_us, job.ended_s = self._clock.now_us(), self._clock.monotonic_s()
        del self._running[job.number]

    def _forget(self) -> None:
        """Forget what ended long ago, and of the rest all but the newest."""
        now_s = self._clock.monotonic_s()
        ended = [one for one in self._jobs.values() if one.state is not JobState.RUNNING]
        ended.sort(key=lambda one: -one.number)
        for at, job in enumerate(ended):
            if at >= MOST_KEPT or now_s - job.ended_s > KEPT_S:
                del self._jobs[job.number]
