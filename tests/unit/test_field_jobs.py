"""Jobs: bounded, cancellable, and forgotten some time after they ended."""

import asyncio
from dataclasses import dataclass

import pytest

from edge.field.jobs import KEPT_S, MOST_KEPT, MOST_RESULTS, Job, Jobs, JobsBusy, JobState
from edge.field.looks import Looks, TooManyLooks
from shared.errors import LinkLost


@dataclass
class Turned:
    at_s: float = 0.0

    def now_us(self) -> int:
        return int(self.at_s * 1e6)

    def monotonic_s(self) -> float:
        return self.at_s


async def ended(job: Job) -> None:
    async with asyncio.timeout(20):
        while job.state is JobState.RUNNING:  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0)


async def nothing(_: Job) -> None:
    await asyncio.sleep(0)


async def for_ever(_: Job) -> None:
    await asyncio.Event().wait()


async def test_progress_only_grows_and_ends_at_one() -> None:
    seen: list[float] = []

    async def work(job: Job) -> None:
        for step in (0.5, 0.2, 7.0):
            job.advance(step)
            seen.append(job.progress)

    async with Jobs(Turned()) as jobs:
        job = jobs.start("scan", "a scan", work)
        await ended(job)
    assert seen == [0.5, 0.5, 1.0]
    assert (job.state, job.progress) == (JobState.DONE, 1.0)


async def test_one_of_a_kind_runs_at_a_time_and_another_kind_beside_it() -> None:
    async with Jobs(Turned()) as jobs:
        first = jobs.start("scan", "", for_ever)
        with pytest.raises(JobsBusy):
            jobs.start("scan", "", nothing)
        jobs.start("other", "", nothing)
        await jobs.cancel(first.number)
        assert first.state is JobState.CANCELLED
        await ended(jobs.start("scan", "", nothing))


async def test_what_goes_wrong_is_the_jobs_problem_alone() -> None:
    async def lost(_: Job) -> None:
        raise LinkLost("the cable is out")

    async def broken(_: Job) -> None:
        raise KeyError("x")

    async with Jobs(Turned()) as jobs:
        for work, problem in [(lost, "the cable is out"), (broken, "a defect: KeyError: 'x'")]:
            job = jobs.start("scan", "", work)
            await ended(job)
            assert (job.state, job.problem) == (JobState.FAILED, problem)


async def test_results_are_bounded_and_all_are_counted() -> None:
    async def work(job: Job) -> None:
        for at in range(MOST_RESULTS + 5):
            job.add(at)

    async with Jobs(Turned()) as jobs:
        job = jobs.start("scan", "", work)
        await ended(job)
    assert len(job.results) == MOST_RESULTS
    assert job.found == MOST_RESULTS + 5


async def test_jobs_that_ended_are_forgotten_by_number_and_by_age() -> None:
    clock = Turned()
    async with Jobs(clock) as jobs:
        for _ in range(MOST_KEPT + 3):
            await ended(jobs.start("scan", "", nothing))
        assert len(jobs.list()) == MOST_KEPT
        assert jobs.find(1) is None
        clock.at_s += KEPT_S + 1
        assert jobs.list() == []


async def test_leaving_ends_what_runs_even_what_had_not_begun() -> None:
    async with Jobs(Turned()) as jobs:
        job = jobs.start("scan", "", for_ever)
    assert job.state is JobState.CANCELLED


async def test_a_client_that_waits_is_woken_by_every_result() -> None:
    go = asyncio.Event()

    async def work(job: Job) -> None:
        await go.wait()
        job.add("found")
        await asyncio.Event().wait()

    async with Jobs(Turned()) as jobs:
        job = jobs.start("scan", "", work)
        waiting = asyncio.create_task(job.stirred(20.0))
        await asyncio.sleep(0)
        go.set()
        await waiting
        assert job.results == ["found"]


def test_only_so_many_looks_are_under_way() -> None:
    looks = Looks(2)
    with looks.one(), looks.one():
        with pytest.raises(TooManyLooks):
            looks.one().__enter__()
        assert looks.under_way == 2
    assert looks.under_way == 0
