"""The JSON schemas of all drivers' options, learnt in a process of its own.

To describe a driver it must be loaded, with the libraries of its protocol; a gateway that uses one
protocol does not keep those of the others in memory. What was learnt is kept for the next start.
"""

import asyncio
import json
import os
import sys
from importlib.metadata import distributions
from typing import Any, Final

from edge.config_store import ConfigStore, ConfigUnwritable
from protocols import registry
from protocols.driver import DriverType
from shared.errors import OptionsWrong
from shared.logs import get

LONGEST_S: Final = 120.0
NICE: Final = 15
"""Loading every driver takes a while: readings come first."""

MOST_BYTES: Final = 8 * 1024 * 1024

_log = get("schemas")


def schemas_of(driver: DriverType) -> dict[str, Any]:
    """Describe one driver: title, options of a device, options of a point."""
    return {
        "title": driver.title,
        "options": driver.device_options.model_json_schema(),
        "source": driver.point_options.model_json_schema(),
    }


async def all_schemas(store: ConfigStore) -> dict[str, Any]:
    """Describe all drivers that are installed; what cannot be learnt is left out."""
    known_as = await asyncio.to_thread(_installed)
    kept = await asyncio.to_thread(store.fact, "schemas")
    if kept and kept[0] == known_as:
        return dict(kept[1])
    try:
        found = await _learnt()
    except (OSError, TimeoutError, ValueError) as error:
        _log.warning("the drivers could not be described", error=str(error))
        return {}
    try:
        await asyncio.to_thread(store.note, {"schemas": [known_as, found]})
    except ConfigUnwritable as error:
        _log.warning("the drivers' descriptions could not be kept", error=str(error))
    return found


async def _learnt() -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.schemas", stdout=asyncio.subprocess.PIPE, limit=MOST_BYTES
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ValueError(f"it ended with {process.returncode}")
    return dict(json.loads(told))


def _installed() -> str:
    """Say which packages are here, in which versions: with them, the drivers change."""
    return " ".join(sorted({f"{one.name}={one.version}" for one in distributions()}))


def described() -> dict[str, Any]:
    """Load every driver and describe it; one that is broken is left out."""
    found = {}
    for name in registry.names():
        try:
            found[name] = schemas_of(registry.find(name))
        except OptionsWrong as error:
            _log.warning("a driver is left out", error=str(error))
    return found


def _tell() -> None:
    """Write the descriptions to the gateway that asked; quietly if that was killed meanwhile."""
    os.nice(NICE)
    try:
        sys.stdout.write(json.dumps(described()))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    _tell()
