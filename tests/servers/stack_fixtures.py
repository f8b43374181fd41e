"""Fixtures of the real stack: each service is started once a session, in a temporary folder.

A test module that says `pytest_plugins = ["tests.servers.stack_fixtures"]` has `kafka_stack`,
`registry_stack`, `timescale_stack`, `mosquitto_stack` (all of one stack) and `staging_stack` (three
brokers with TLS). A service that this machine lacks something for skips the test and says what.
"""

from collections.abc import AsyncIterator

import pytest

from deploy.central.native.launcher import Launcher
from tests.servers.stack import RunningStack, started, temporary_stack


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
