"""Stacks of real servers for tests: started where the machine can, ended with the block.

The fixtures are in `stack_fixtures.py`.
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


@asynccontextmanager
async def temporary_stack(profile: Profile) -> AsyncIterator[Launcher]:
    """Give a launcher whose servers end with the block, or with this process if it is killed."""
    # Not under pytest's own folder: another session would close that to a server's user.
    with TemporaryDirectory(prefix="spine-stack-") as folder:
        launcher = Launcher(Path(folder) / "a person's stäck", profile, tied=True)
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
