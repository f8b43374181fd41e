"""Fixtures of the real stack: each service is started once a session, in a temporary folder.

A test module that says `pytest_plugins = ["tests.servers.stack_fixtures"]` has `kafka_stack`,
`registry_stack`, `timescale_stack`, `mosquitto_stack` (all of one stack) and `staging_stack` (three
brokers with TLS). A service that this machine lacks something for skips the test and says what.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.central.native.launcher import Launcher, missing
from deploy.central.native.service import Profile


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The session's stack: its launcher, and what its env file says."""

    launcher: Launcher
    env: Mapping[str, str]


@pytest.fixture(scope="session")
async def stack_launcher() -> AsyncIterator[Launcher]:
    async with temporary_stack("dev") as launcher:
        yield launcher


@pytest.fixture(scope="session")
async def kafka_stack(stack_launcher: Launcher) -> RunningStack:
    return await started(stack_launcher, "kafka")


@pytest.fixture(scope="session")
async def registry_stack(stack_launcher: Launcher) -> RunningStack:
    return await started(stack_launcher, "registry")


@pytest.fixture(scope="session")
async def timescale_stack(stack_launcher: Launcher) -> RunningStack:
    return await started(stack_launcher, "timescale")


@pytest.fixture(scope="session")
async def mosquitto_stack(stack_launcher: Launcher) -> RunningStack:
    return await started(stack_launcher, "mosquitto")


@pytest.fixture(scope="session")
async def staging_stack() -> AsyncIterator[RunningStack]:
    async with temporary_stack("staging") as launcher:
        yield await started(launcher, "kafka")


@asynccontextmanager
async def temporary_stack(profile: Profile) -> AsyncIterator[Launcher]:
    """Give a launcher whose servers end with the block, or with this process if it is killed."""
    # Not under pytest's own folder: another session would close that to a server's user.
    with TemporaryDirectory(prefix="spine-stack-") as folder:
        launcher = Launcher(Path(folder) / "stack", profile, tied=True)
        try:
            yield launcher
        finally:
            await asyncio.to_thread(launcher.reset)


async def started(launcher: Launcher, *services: str) -> RunningStack:
    """Start services where they do not run yet; skips the test where the machine cannot."""
    for service in services:
        lacks = missing(service)
        if lacks:
            pytest.skip(f"{service} cannot run here, for this machine lacks {'; '.join(lacks)}")
    return RunningStack(launcher, await asyncio.to_thread(launcher.up, services))
