"""The building as a process of its own, for a demo, a test or a long proof."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocols.simulated.settings import BuildingSettings
from protocols.simulated.truth import BUILDING_FILE
from shared.errors import SpineError

_READY_S: Final = 60.0
_STOP_S: Final = 15.0
_LOOK_S: Final = 0.05


class BuildingFailed(SpineError):
    """The building's process ended or did not become ready; its own words are on stderr."""


@dataclass(frozen=True, slots=True)
class RunningBuilding:
    """A building that is ready: its process, and what `building.json` says."""

    process: asyncio.subprocess.Process
    truth: Path
    description: dict[str, Any]


def command(settings: BuildingSettings) -> list[str]:
    """Write the command line that starts a building with these settings."""
    words = [sys.executable, "-m", "protocols.simulated"]
    for name, value in settings.model_dump(exclude_defaults=True).items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return words


@asynccontextmanager
async def running_building(
    settings: BuildingSettings, ready_within_s: float = _READY_S
) -> AsyncIterator[RunningBuilding]:
    """Start a building, wait until it is ready, and stop it cleanly at the end.

    Raises `BuildingFailed` if it ends before, or is not ready in time.
    """
    file = settings.truth / BUILDING_FILE
    file.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(*command(settings))
    try:
        await _until_ready(process, file, ready_within_s)
        description = json.loads(file.read_text(encoding="utf-8"))
        yield RunningBuilding(process, settings.truth, description)
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> int:
    """End a building's process: asked to by SIGTERM, and killed if it does not; gives its code."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, file: Path, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            while not await asyncio.to_thread(file.exists):
                if process.returncode is not None:
                    msg = f"the simulated building ended with code {process.returncode}"
                    raise BuildingFailed(msg)
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as error:
        msg = f"the simulated building was not ready within {limit_s} s: no {file}"
        raise BuildingFailed(msg) from error
