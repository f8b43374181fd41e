"""A technician's tools of one running gateway, together: they live as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edge.field.browsing import Browser
from edge.field.checkout_store import CheckOutStore
from edge.field.checkouts import CheckOuts
from edge.field.connection_test import StepReport, check_connection
from edge.field.jobs import Job, Jobs
from edge.field.log_ring import LogRing
from edge.field.looks import Looks
from edge.field.target import Target
from edge.live import LiveValues
from edge.twin import Twin
from shared.clock import Clock

TEST = "test"
_STEPS = 4


@dataclass(frozen=True, slots=True)
class FieldTools:
    """What a technician works with."""

    looks: Looks
    jobs: Jobs
    browser: Browser
    checkouts: CheckOuts
    logs: LogRing

    def start_test(self, target: Target, title: str) -> Job:
        """Test the way to a device as a job, whose results are its steps; raises `JobsBusy`."""

        async def work(job: Job) -> None:
            def told(step: StepReport) -> None:
                job.add(step)
                job.advance(job.found / _STEPS)

            await check_connection(target, told)

        return self.jobs.start(TEST, title, work)


@asynccontextmanager
async def field_tools(
    twin: Twin, live: LiveValues, logs: LogRing, clock: Clock
) -> AsyncIterator[FieldTools]:
    """Keep the tools ready; leaving ends every job and closes every browse session."""
    store = CheckOutStore(twin.secrets.store)
    checkouts = CheckOuts(store, live, lambda: twin.devices, clock)
    async with Jobs(clock) as jobs, Browser() as browser:
        yield FieldTools(Looks(), jobs, browser, checkouts, logs)
