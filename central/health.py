"""/healthz, /readyz and /metrics of a process: alive, each dependency by name, Prometheus text."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from central.access import open_to_all
from shared.errors import SpineError
from shared.metrics import CONTENT_TYPE, exposition

CHECK_TIMEOUT_S: Final = 2.0

Check = Callable[[], Awaitable[str]]
"""Tells the state of one dependency in a few words; raises an error of ours where it is away."""


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class DependencyState(BaseModel):
    """Whether one dependency is ready, and its own words."""

    ready: bool
    state: str


class Readiness(BaseModel):
    """Whether the process can do its work, dependency by dependency."""

    ready: bool
    dependencies: dict[str, DependencyState]


@dataclass(frozen=True, slots=True)
class Health:
    """What a process tells of itself."""

    checks: Mapping[str, Check]
    registry: CollectorRegistry

    async def readiness(self) -> Readiness:
        """Ask all dependencies at once, each with a time limit."""
        states = await asyncio.gather(*(_ask(check) for check in self.checks.values()))
        return Readiness(
            ready=all(state.ready for state in states),
            dependencies=dict(zip(self.checks, states, strict=True)),
        )


def routes(health: Health) -> APIRouter:
    """Make the three routes; they are open, for they are asked by machines that have no key."""
    router = APIRouter(dependencies=[open_to_all], tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Alive:
        """Tell that the process lives."""
        return Alive()

    @router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready"}})
    async def readyz(response: Response) -> Readiness:
        """Tell each dependency with its state; 503 while one is away."""
        readiness = await health.readiness()
        response.status_code = 200 if readiness.ready else 503
        return readiness

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Tell the metrics of all modules in this process."""
        return Response(exposition(health.registry), media_type=CONTENT_TYPE)

    return router


async def _ask(check: Check) -> DependencyState:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return DependencyState(ready=True, state=await check())
    except TimeoutError:
        return DependencyState(ready=False, state=f"no answer in {CHECK_TIMEOUT_S:g} s")
    except (SpineError, OSError) as error:
        return DependencyState(ready=False, state=str(error)[:200])
