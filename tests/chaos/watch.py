"""Watches what must not stand still during a run, and notes when it was seen to go on."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from central.storage.database import DatabaseAway, Pool, project_transaction
from shared.clock import SystemClock

LOOK_S: Final = 0.5
TIMEOUT_S: Final = 2.0
_READINGS: Final = re.compile(r"^spine_ingress_readings_total\{.*\} (\S+)$", re.MULTILINE)

Probe = Callable[[], Awaitable[float | None]]
"""Gives a number that is another one than last time if the thing went on; None: no answer."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at everything twice a second."""

    path: Path
    probes: Mapping[str, Probe]

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, probe in self.probes.items():
                group.create_task(self._look(name, probe), name=f"watch {name}")

    async def _look(self, name: str, probe: Probe) -> None:
        self._note(name)  # what is never seen to go on is not forgotten
        last: float | None = None
        while True:
            found = await probe()
            if found is not None and found != last:
                last = found
                self._note(name)
            await asyncio.sleep(LOOK_S)

    def _note(self, name: str) -> None:
        line = json.dumps({"at_us": SystemClock().now_us(), "of": name})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def settled(pool: Pool, project: str) -> Probe:
    """Count the readings that are settled."""

    async def count() -> float | None:
        try:
            async with asyncio.timeout(TIMEOUT_S), project_transaction(pool, project) as reading:
                return float(
                    await reading.fetchval("SELECT coalesce(sum(delivered), 0) FROM settled")
                )
        except (DatabaseAway, TimeoutError):
            return None

    return count


def appended(client: httpx2.AsyncClient, url: str) -> Probe:
    """Count the readings that ingress has put into the log."""

    async def count() -> float | None:
        text = await _get(client, url)
        found = _READINGS.findall(text or "")
        return sum(map(float, found)) if found else None

    return count


def ready(client: httpx2.AsyncClient, url: str) -> Probe:
    """See whether a module says that it is ready."""

    async def look() -> float | None:
        return None if await _get(client, url) is None else time.monotonic()

    return look


async def _get(client: httpx2.AsyncClient, url: str) -> str | None:
    try:
        answer = await client.get(url)
    except httpx2.HTTPError:
        return None
    return answer.text if answer.status_code == 200 else None
