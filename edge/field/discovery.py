"""Discovery: a driver looks for devices; each that is configured already is marked as such."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from edge.field.jobs import Job, Jobs
from edge.field.known import device_of
from edge.settings import Device
from edge.twin import ConfigRefused
from protocols import registry
from protocols.driver import DriverType, Found
from shared.errors import OptionsWrong
from shared.settings import Problem, problems_in

KIND = "scan"


@dataclass(frozen=True, slots=True)
class Search:
    """A driver that can look for devices, and where it shall look."""

    driver: DriverType
    options: BaseModel


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device that was found, and its name where it is configured already."""

    found: Found
    known_as: str


def search_for(driver: str, options: Mapping[str, Any]) -> Search:
    """Check where to look. Raises `ConfigRefused` with every problem and its path."""
    try:
        kind = registry.find(driver)
    except OptionsWrong as error:
        raise ConfigRefused([Problem(("driver",), str(error))]) from error
    if kind.discover is None or kind.discover_options is None:
        title = kind.title or kind.name
        text = f"{title} devices cannot be searched for: give the address by hand"
        raise ConfigRefused([Problem(("driver",), text)])
    try:
        return Search(kind, kind.discover_options.model_validate(dict(options)))
    except ValidationError as error:
        raise ConfigRefused(list(problems_in(error, ("options",)))) from error


def start(jobs: Jobs, search: Search, devices: Callable[[], Sequence[Device]]) -> Job:
    """Start looking as a job; raises `JobsBusy`."""

    async def work(job: Job) -> None:
        await look(search, devices, job.advance, job.add)

    title = search.driver.title or search.driver.name
    return jobs.start(KIND, f"{title}: looking for devices", work)


async def look(
    search: Search,
    devices: Callable[[], Sequence[Device]],
    progress: Callable[[float], None],
    found: Callable[[FoundDevice], None],
) -> None:
    """Look for devices to the end. Raises what the driver raises."""
    assert search.driver.discover is not None  # noqa: S101 - `search_for` has seen to it
    looking = search.driver.discover(search.options, progress)
    async with aclosing(cast(AsyncGenerator[Found, None], looking)):
        async for one in looking:
            found(FoundDevice(one, device_of(devices(), search.driver, one)))
