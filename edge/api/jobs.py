"""Jobs: looking for devices, which takes a while, goes on without its client and can be ended."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from edge.api.access import TECHNICIAN
from edge.api.context import Here
from edge.api.problems import ApiProblem
from edge.api.revisions import Given
from edge.api.words import Moment, moment
from edge.field import discovery
from edge.field.discovery import FoundDevice
from edge.field.jobs import MOST_RESULTS, Job

router = APIRouter(prefix="/api/v1", tags=["jobs"], dependencies=[TECHNICIAN])

Number = Annotated[int, Path(ge=0, le=2**31)]


class SearchGiven(Given):
    """Where to look for devices; see the driver for the options."""

    driver: str = Field(max_length=80)
    options: dict[str, Any] = Field({}, description="The driver's options.")


class FoundTold(BaseModel):
    """A device that was found, and its name where it is configured already."""

    title: str
    options: dict[str, Any] = Field(description="The device options that reach it.")
    facts: dict[str, str]
    known_as: str


class JobTold(BaseModel):
    """A job; `found` counts all results, of which the first 2,000 are kept."""

    number: int
    kind: str
    title: str
    state: str = Field(description="running, done, failed, cancelled.")
    progress: float = Field(description="From 0 to 1.")
    found: int
    problem: str
    started_at: Moment
    ended_at: Moment | None


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobTold]


class JobResults(JobTold):
    """A job with results from a place on; `next` is the place after them."""

    results: list[FoundTold]
    next: int


@router.post("/searches", status_code=202)
async def start_search(given: SearchGiven, here: Here) -> JobTold:
    """Start looking for devices; one search at a time."""
    search = discovery.search_for(given.driver, given.options)
    return _told(discovery.start(here.tools.jobs, search, lambda: here.twin.devices))


@router.get("/jobs")
async def list_jobs(here: Here) -> JobList:
    """List the jobs that run, or ended not long ago."""
    return JobList(jobs=[_told(one) for one in here.tools.jobs.list()])


@router.get("/jobs/{number}")
async def one_job(
    number: Number,
    here: Here,
    start: Annotated[int, Query(ge=0, le=MOST_RESULTS)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=30, description="Wait for something new.")] = 0,
) -> JobResults:
    """Give a job and its results from a place on."""
    job = _found(here, number)
    if wait_s and len(job.results) <= start:
        await job.stirred(wait_s)
    results = [_found_told(one) for one in job.results[start:] if isinstance(one, FoundDevice)]
    return JobResults(**_told(job).model_dump(), results=results, next=len(job.results))


@router.delete("/jobs/{number}")
async def cancel_job(number: Number, here: Here) -> JobTold:
    """End a job; what it found by then stays."""
    job = _found(here, number)
    await here.tools.jobs.cancel(number)
    return _told(job)


def _found(here: Here, number: int) -> Job:
    job = here.tools.jobs.find(number)
    if job is None:
        raise ApiProblem("not_found", f"There is no job {number} (any more).")
    return job


def _told(job: Job) -> JobTold:
    return JobTold(
        number=job.number,
        kind=job.kind,
        title=job.title,
        state=job.state.value,
        progress=job.progress,
        found=job.found,
        problem=job.problem,
        started_at=moment(job.started_us),
        ended_at=None if job.ended_us is None else moment(job.ended_us),
    )


def _found_told(one: FoundDevice) -> FoundTold:
    return FoundTold(
        title=one.found.title,
        options=dict(one.found.options),
        facts=dict(one.found.facts),
        known_as=one.known_as,
    )
